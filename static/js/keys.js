// keys.js: one registry of shortcuts drives the handlers, aria-keyshortcuts and the sheet that "?" opens.
const words = JSON.parse(document.getElementById("words").textContent);
const sheet = document.getElementById("keys-sheet");
const singleKeys = sheet.querySelector("[data-single-keys]");
const composer = () => document.getElementById("composer");

const REGISTRY = [
  { key: "/", word: words.keys_composer, on: "#composer", run: () => composer().focus() },
  { key: "n", word: words.keys_new, run: () => document.getElementById("new-chat").click() },
  { key: "j", word: words.keys_next, run: () => step(1) },
  { key: "k", word: words.keys_previous, run: () => step(-1) },
  { key: "c", word: words.keys_copy, run: () => current()?.querySelector("[data-copy=message]")?.click() },
  { key: "?", word: words.keys_sheet, on: "[data-open-keys]", run: () => sheet.showModal() },
  { label: ["Enter"], word: words.keys_send }, // these are composer.js's
  { label: ["Shift", "Enter"], word: words.keys_line },
  { label: ["Esc"], word: words.keys_stop, on: "[data-stop]", aria: "Escape" },
];

for (const { key, label, aria, word, on } of REGISTRY) {
  const names = label ?? [key.toUpperCase()];
  const term = document.createElement("dt");
  term.append(...names.map((name) => Object.assign(document.createElement("kbd"), { className: "kbd", textContent: name })));
  sheet.querySelector("dl").append(term, Object.assign(document.createElement("dd"), { textContent: word }));
  if (on) document.querySelector(on)?.setAttribute("aria-keyshortcuts", aria ?? names[0]);
}

try {
  singleKeys.checked = localStorage.getItem("single-keys") !== "off";
} catch {}
singleKeys.addEventListener("change", () => {
  try {
    localStorage.setItem("single-keys", singleKeys.checked ? "on" : "off");
  } catch {}
});
for (const opener of document.querySelectorAll("[data-open-keys]")) {
  opener.hidden = false;
  opener.addEventListener("click", () => sheet.showModal());
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !singleKeys.checked) return;
  if (event.target.closest("input, textarea, select, [contenteditable], [role=listbox], dialog")) return;
  const entry = REGISTRY.find(({ key }) => key === event.key.toLowerCase());
  if (!entry) return;
  event.preventDefault();
  entry.run();
});

function current() {
  return document.activeElement.closest(".msg") ?? [...document.querySelectorAll(".msg")].at(-1);
}

function step(by) {
  const messages = [...document.querySelectorAll(".msg")];
  const at = messages.indexOf(document.activeElement.closest(".msg"));
  const next = at < 0 ? messages.at(-1) : messages[Math.max(0, Math.min(at + by, messages.length - 1))];
  next?.focus();
}
