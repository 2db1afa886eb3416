// swap.js: the little of htmx that the chat page needs, by htmx's own names, so that a module works with either: partials
// that take their places (hx-swap-oob) and forms that are sent in place (hx-post). Other pages have the whole of it.
const words = JSON.parse(document.getElementById("words").textContent);
const PLACES = { outerHTML: "replaceWith", innerHTML: "replaceChildren", beforeend: "append" };

export async function swap({ text, content = parsed(text), target, swap: how = "innerHTML" }) { // `content` is text that is parsed
  const title = content.querySelector("title");
  if (title) document.title = title.textContent;
  title?.remove();
  const elsewhere = [...content.querySelectorAll("[hx-swap-oob]")];
  elsewhere.forEach((part) => part.remove());
  if (PLACES[how]) target[PLACES[how]](document.importNode(content, true));
  for (const part of elsewhere) {
    const there = document.getElementById(part.id), [way, before] = part.getAttribute("hx-swap-oob").split(":");
    part.removeAttribute("hx-swap-oob");
    if (way === "delete" || before) there?.remove();
    if (before) document.querySelector(before)?.before(document.importNode(part, true));
    else if (way === "innerHTML") there?.replaceChildren(...document.importNode(part, true).childNodes);
    else there?.replaceWith(document.importNode(part, true));
  }
  document.dispatchEvent(new CustomEvent("htmx:after:swap"));
}

function parsed(text) {
  return Object.assign(document.createElement("template"), { innerHTML: text }).content;
}

async function send(form, button, isSecond = false) {
  const composer = document.querySelector("chat-composer"), notDone = () => composer?.tell(words.not_done);
  const body = new FormData(form, button);
  for (const field of document.querySelectorAll(form.getAttribute("hx-include") ?? ":not(*)")) body.append(field.name, field.value);
  const answer = await fetch(form.getAttribute("hx-post"), { method: "POST", body, headers: { "HX-Request": "true" }, keepalive: true }).catch(() => null);
  const text = await answer?.text().catch(() => null);
  if (text === null || text === undefined || answer.status >= 500 || answer.redirected) return notDone();
  if (!isSecond && [401, 403].includes(answer.status)) return composer?.reenter(answer, () => send(form, button, true));
  const content = parsed(text), isForm = answer.ok || content.getElementById(form.id); // else the form stays, with what was typed
  if (!isForm && !content.querySelector("[hx-swap-oob]")) return notDone();
  const wanted = form.getAttribute("hx-target") ?? "this";
  const how = isForm ? form.getAttribute("hx-swap") ?? "innerHTML" : "none";
  await swap({ content, target: wanted === "this" ? form : document.querySelector(wanted), swap: how });
}

document.addEventListener("submit", (event) => {
  if (!event.target.hasAttribute("hx-post")) return;
  event.preventDefault();
  send(event.target, event.submitter);
});
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form?.getAttribute("hx-trigger") === "change" && form.hasAttribute("hx-post")) form.requestSubmit();
});
globalThis.htmx ??= { swap };
