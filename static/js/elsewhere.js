// elsewhere.js: what happens to these chats in another tab or on another device shows here without a reload. Tabs of one
// browser tell each other, and what bell.js hears of other devices: a new chat, another title, a deletion. Of everything else
// the page hears when somebody comes back to it. No poll. A chat's better title is made after its first answer: the page
// looks for it twice.
const QUIET_MS = 5000; // between two looks that nobody asked for
const TITLED_MS = [3000, 9000]; // after the first answer
const SETTLED_MS = 1000; // before a look for what happened while this page was busy, or looked
const channel = "BroadcastChannel" in window ? new BroadcastChannel("chats") : null;
let lookedAt = Date.now(), isLooking = false, isOwed = false, isStale = false;

for (const name of ["turn:begin", "turn:end"]) document.addEventListener(name, () => channel?.postMessage(name));
channel?.addEventListener("message", ({ data }) => isKnown(data) || look());
document.addEventListener("htmx:after:swap", () => (isStale = true)); // a look that is under way may not have seen what was done here
addEventListener("focus", () => Date.now() - lookedAt > QUIET_MS && look());

document.addEventListener("turn:end", () => {
  if (isOwed) setTimeout(look, SETTLED_MS);
  if (document.querySelectorAll("#chats, #thread > .msg").length === 3) TITLED_MS.forEach((ms) => setTimeout(look, ms));
});

function isKnown({ table, event, new: row, old }) { // by the list: most of what is told this page did itself
  if (!table) return false;
  const shown = document.querySelector(`[data-chat="${(row ?? old).id}"]`);
  if (event === "DELETE") shown?.remove(); // of the open chat nothing can be fetched any more
  if (event === "DELETE" || row.archived) return !shown;
  return shown?.querySelector(".truncate").textContent === row.title && "pinned" in shown.dataset === row.pinned;
}

async function look() {
  isOwed = isLooking || Boolean(document.querySelector("chat-stream, .is-pending:not(:has(.note:not([hidden])))"));
  if (isOwed) return;
  [isLooking, isStale] = [true, false];
  const answer = await fetch(location.href).catch(() => null);
  const html = answer?.ok && !answer.redirected ? await answer.text().catch(() => null) : null;
  [isLooking, lookedAt] = [false, Date.now()];
  if (isOwed || isStale) setTimeout(look, SETTLED_MS);
  if (!html || isStale || document.querySelector("chat-stream")) return;
  const page = new DOMParser().parseFromString(html.replace(/<style.*?<\/style>/gs, ""), "text/html");
  if (page.querySelector("chat-composer")?.dataset.owner !== document.querySelector("chat-composer")?.dataset.owner) return;
  for (const id of ["chats", "quota", "chat-title", "composer-price"]) take(document.getElementById(id), page.getElementById(id));
  if (page.title) document.title = page.title;
  const [here, there] = [document.getElementById("thread"), page.getElementById("thread")];
  if (!there || signs(here) === signs(there)) return;
  const isWritten = (box) => box.value !== box.defaultValue || box.matches(".msg > .edit > *, :focus");
  if ([...here.querySelectorAll("textarea")].some(isWritten)) return void (isOwed = true); // a question is edited, or an answer corrected
  const waiting = [...here.querySelectorAll(".is-pending")], focused = document.activeElement?.closest(".msg")?.id;
  here.replaceChildren(...document.importNode(there, true).children, ...waiting);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function take(here, there) {
  if (!here || !there || here.outerHTML === there.outerHTML || here.contains(document.activeElement)) return;
  there.removeAttribute("hx-swap-oob");
  here.replaceWith(document.importNode(there, true));
}

function signs(thread) { // which messages are shown, and how far each has come
  return [...thread.querySelectorAll(".msg[id]")].map(({ id, dataset, ariaBusy }) => [id, dataset.status, ariaBusy].join()).join(" ");
}
