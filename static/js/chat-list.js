// chat-list.js: fetches chat-rows.js once somebody comes near the list of chats, or something can be taken back: a page that
// is only asked from does without. A press that comes first waits for it.
const list = document.querySelector("chat-list");
const load = () => import(list.dataset.module);

for (const name of ["pointerenter", "focusin"]) list.addEventListener(name, load, { once: true });
list.closest("[popover]").addEventListener("toggle", load, { once: true }); // the drawer of a phone
if (document.querySelector("[data-toast]")) load();
list.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-menu], [data-more]");
  if (!link || customElements.get("chat-list") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  await load();
  link.click();
});
list.addEventListener("keydown", async ({ key, target }) => {
  if (!["Delete", "F2"].includes(key) || customElements.get("chat-list")) return;
  await load();
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
});
