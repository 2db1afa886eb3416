// keys.js: the sheet that "?" opens is the registry of shortcuts. Each of its rows says which keys, and what they do: follow
// its link, press what data-press names, or a deed of ours. Rows without tell of composer.js and rows.js.
import { remember, store } from "./prefs.js";

const sheet = document.getElementById("keys-sheet"), rows = [...sheet.querySelectorAll("[data-keys]")];
const single = sheet.querySelector("[data-single-keys]");
const isMac = /^(Mac|iP)/.test(navigator.platform); // there Ctrl with a letter is text editing
const SHOWN = { Mod: isMac ? "⌘" : "Ctrl", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
const FIELDS = "input, textarea, select, [contenteditable], [role=listbox], dialog";
const SEQUENCE_MS = 1500;
let palette; // fetched when it is first asked for

const DEEDS = {
  palette: async () => (palette ?? (palette = await import(sheet.dataset.palette))).open(sheet.dataset.paletteSrc),
  composer: () => document.getElementById("composer")?.focus(),
  sheet: show,
  next: () => step(1),
  previous: () => step(-1),
};

for (const row of rows) {
  const kbd = (name) => Object.assign(document.createElement("kbd"), { className: "kbd", textContent: SHOWN[name] ?? name });
  row.prepend(document.createElement("dt"));
  row.firstChild.append(...row.dataset.keys.split(/[ +]/).map(kbd));
}
single.addEventListener("change", () => {
  remember("shortcuts_on", single.checked ? null : "0");
  if (single.form.hasAttribute("data-store")) store(single.form);
  name();
});
for (const opener of document.querySelectorAll("[data-open-keys]")) opener.hidden = false;
document.addEventListener("focusin", name);
name();

function name() { // tells assistive technology the keys of what is on the page; of a message, of the one in focus
  for (const { dataset: { keys, on, press } } of rows) {
    const element = on ? document.querySelector(on) : press && current()?.querySelector(press);
    if (keys.length === 1 && !single.checked) element?.removeAttribute("aria-keyshortcuts");
    else element?.setAttribute("aria-keyshortcuts", keys.replace("Mod", isMac ? "Meta" : "Control"));
  }
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-open-keys]")) show();
  if (!event.target.closest("[data-open-palette]") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault(); // without JavaScript it is a link to the page of search
  DEEDS.palette();
});

let begun = "", forget;
document.addEventListener("keydown", (event) => {
  const { key, target } = event, mod = isMac ? event.metaKey : event.ctrlKey;
  if (event.isComposing || event.keyCode === 229 || event.altKey || (isMac ? event.ctrlKey : event.metaKey)) return;
  if (event.defaultPrevented || (!mod && (target.closest(FIELDS) || (key.length === 1 && !single.checked)))) return;
  const pressed = (mod ? "mod+" : "") + (begun && `${begun} `) + key.toLowerCase();
  begun = "";
  clearTimeout(forget);
  const row = rows.find(({ dataset }) => dataset.keys.toLowerCase() === pressed);
  if (row && act(row)) return event.preventDefault();
  if (!rows.some(({ dataset }) => dataset.keys.toLowerCase().startsWith(`${pressed} `))) return;
  begun = pressed;
  forget = setTimeout(() => (begun = ""), SEQUENCE_MS);
});

function act(row) { // whether there was anything to do
  const { does, keys, press } = row.dataset;
  if (!isHere(row)) return false;
  const message = keys.startsWith("Arrow") ? document.activeElement.closest(".msg") : current();
  const target = press ? message?.querySelector(press) : row.querySelector("a");
  does ? DEEDS[does]() : target?.click();
  return Boolean(does || target);
}

function isHere({ dataset: { where } }) {
  return !where || Boolean(document.querySelector(where));
}

function show() {
  for (const part of sheet.querySelectorAll("[data-where]")) part.hidden = !isHere(part);
  sheet.showModal();
  sheet.scrollTop = 0; // the focus is on Close, at the end
}

function current() {
  return document.activeElement.closest(".msg") ?? [...document.querySelectorAll(".msg")].at(-1);
}

function step(by) {
  const messages = [...document.querySelectorAll(".msg")];
  const at = messages.indexOf(document.activeElement.closest(".msg"));
  (at < 0 ? messages.at(-1) : messages[Math.max(0, Math.min(at + by, messages.length - 1))])?.focus();
}
