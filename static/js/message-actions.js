// message-actions.js: what is done with a message is done in place. Its buttons belong to #message-form, which is sent here; the
// server answers with what takes the old one's place, the whole thread or one message. Without this they are plain forms.
import { toEnd } from "./jump.js";
import { toasts } from "./toast.js";

const words = JSON.parse(document.getElementById("words").textContent);
const menu = document.getElementById("again-menu");
let isBusy = false;
toasts();

document.addEventListener("submit", (event) => {
  const form = event.target, button = event.submitter;
  if (form.id !== "message-form" && !form.matches("[data-message-form]")) return;
  event.preventDefault();
  if (menu.contains(button)) menu.hidePopover();
  const body = new URLSearchParams(new FormData(form, button));
  button?.closest(".toast")?.remove();
  const picked = button?.hasAttribute("data-picked") && document.querySelector("#composer-form [name=provider]")?.value;
  if (picked) body.set("provider", picked); // whoever asks again after a failure may have picked another model before
  change(button?.getAttribute("formaction") ?? form.getAttribute("action"), { method: "POST", body }, button);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]"), again = event.target.closest("[data-redo]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    change(link.getAttribute("href"), {}, link);
  } else if (again) { // a menu of models; without JavaScript the same one answers again
    event.preventDefault();
    for (const item of menu.querySelectorAll("button")) item.setAttribute("formaction", again.getAttribute("formaction"));
    menu.showPopover({ source: again });
    menu.querySelector("button").focus();
  }
});

menu.addEventListener("keydown", (event) => {
  const items = [...menu.querySelectorAll("button")], at = items.indexOf(document.activeElement), last = items.length - 1;
  const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  items[to].focus();
});

document.addEventListener("keydown", (event) => {
  const form = event.target.closest?.("form.edit");
  if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
  if (form && event.key === "Escape" && !event.isComposing) form.querySelector("[data-swap]")?.click();
  const box = event.target;
  if (box.id !== "composer" || event.key !== "ArrowUp" || box.value || event.isComposing) return;
  event.preventDefault(); // an empty box has no line above: the last question is edited
  [...document.querySelectorAll("[data-edit]")].at(-1)?.click();
});

async function change(address, request, button, isSecond = false) {
  if (isBusy) return; // a second press; the server would do it once as well
  isBusy = true;
  const place = placeOf(button);
  const headers = { "HX-Request": "true", Accept: "application/json, text/html" };
  const answer = await fetch(address, { ...request, headers }).catch(() => null);
  const told = await answer?.text().catch(() => null);
  const composer = document.querySelector("chat-composer");
  if (answer?.ok && told) await show(told, place);
  else if (composer && !isSecond && [401, 403].includes(answer?.status)) {
    composer.reenter(answer, () => {
      request.body?.set("csrfmiddlewaretoken", composer.token.value);
      change(address, request, button, true);
    });
  } else await explain(told);
  isBusy = false;
}

function placeOf(button) { // where the focus was: which message, and which of its buttons
  const message = (button?.getAttribute("popover") ? null : button)?.closest(".msg"), messages = [...document.querySelectorAll(".msg")];
  const name = button?.closest(".msg-actions") && ["data-version", "name"].find((each) => button.hasAttribute(each));
  return { at: messages.indexOf(message), selector: name && `[${name}="${button.getAttribute(name)}"]` };
}

async function show(html, { at, selector }) {
  const id = new DOMParser().parseFromString(html, "text/html").querySelector("#thread, .msg")?.id;
  const old = document.getElementById(id);
  if (!old) return location.reload(); // another tab changed what is shown
  const putBack = unsent(old);
  await htmx.swap({ text: html, target: old, sourceElement: old, swap: "outerHTML" });
  putBack();
  for (const field of document.querySelectorAll("#message-form [name=idempotency_key]")) field.value = key();
  if (!document.querySelector("chat-stream")) document.dispatchEvent(new CustomEvent("turn:stuck")); // it may have been turned away from
  toasts();
  const fresh = document.getElementById(id), messages = [...document.querySelectorAll(".msg")];
  const message = fresh.matches(".msg") ? fresh : fresh.querySelector(".msg[aria-busy]") ?? messages[Math.min(at, messages.length - 1)];
  const button = selector && message?.querySelector(selector);
  (message?.querySelector("form.edit textarea") ?? (button?.disabled ? message : button) ?? message)?.focus();
  if (message?.ariaBusy === "true") toEnd();
}

// What was written in the thread and not sent outlives its being drawn anew: questions that wait, and changed words in what
// is still shown.
function unsent(thread) {
  const waiting = [...thread.querySelectorAll(".is-pending")];
  const written = [...thread.querySelectorAll(":scope > .msg textarea")].filter(({ value, defaultValue }) => value !== defaultValue);
  const messages = written.map((box) => box.closest(".msg"));
  return () => {
    for (const message of messages) document.getElementById(message.id)?.replaceWith(message);
    document.getElementById("thread").append(...waiting);
  };
}

async function explain(told) { // a note of ours in HTML, a refusal in JSON, or nothing at all
  if (told?.includes("composer-note")) return htmx.swap({ text: told, target: document.body, sourceElement: document.body, swap: "none" });
  const note = document.getElementById("composer-note");
  let detail;
  try {
    ({ detail } = JSON.parse(told));
  } catch {}
  note.querySelector("p").textContent = detail ?? words.not_done;
  note.querySelector("[data-retry]").hidden = true;
  note.hidden = false;
}

function key() { // crypto.randomUUID is missing where a site is served without TLS
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
