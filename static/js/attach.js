// attach.js: fetches later/attachments.js once somebody attaches something, or has: no chat pays for it before.
const find = () => document.querySelector("attach-files");
let loading;
const load = () => (loading ??= import(find().dataset.module));

if (find().querySelector("li")) load();
addEventListener("click", (event) => event.target.closest("[popovertarget=attach]") && load());
addEventListener("dragenter", (event) => event.dataTransfer.types.includes("Files") && load());
addEventListener("paste", async (event) => {
  const files = [...event.clipboardData.files]; // gone once the event is over
  if (!files.length || customElements.get("attach-files")) return;
  event.preventDefault();
  await load();
  find().take(files);
});
