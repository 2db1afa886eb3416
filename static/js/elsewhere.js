// elsewhere.js: what happens to these chats in another tab or on another device shows here without a reload. Tabs of one
// browser tell each other; of everything else the page hears when somebody comes back to it. No poll. A chat's better title
// is made after its first answer: the page looks for it twice.
const QUIET_MS = 5000; // between two looks that nobody asked for
const TITLED_MS = [3000, 9000]; // after the first answer
const channel = "BroadcastChannel" in window ? new BroadcastChannel("chats") : null;
let lookedAt = Date.now(), isLooking = false;

for (const name of ["turn:begin", "turn:end"]) document.addEventListener(name, () => channel?.postMessage(name));
channel?.addEventListener("message", look);
addEventListener("focus", () => Date.now() - lookedAt > QUIET_MS && look());

document.addEventListener("turn:end", () => {
  if (document.querySelectorAll("#chats, #thread > .msg").length === 3) TITLED_MS.forEach((ms) => setTimeout(look, ms));
});

async function look() {
  if (isLooking || document.querySelector("chat-stream, .is-pending:not(:has(.note:not([hidden])))")) return; // busy here
  isLooking = true;
  const answer = await fetch(location.href).catch(() => null);
  const html = answer?.ok && !answer.redirected ? await answer.text().catch(() => null) : null;
  [isLooking, lookedAt] = [false, Date.now()];
  if (!html || document.querySelector("chat-stream")) return;
  const page = new DOMParser().parseFromString(html.replace(/<style.*?<\/style>/gs, ""), "text/html");
  if (page.querySelector("chat-composer")?.dataset.owner !== document.querySelector("chat-composer")?.dataset.owner) return;
  for (const id of ["chats", "quota", "chat-title", "composer-price"]) take(document.getElementById(id), page.getElementById(id));
  if (page.title) document.title = page.title;
  const [here, there] = [document.getElementById("thread"), page.getElementById("thread")];
  if (!there || signs(here) === signs(there)) return;
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
