// starters.js: "/" at the start of the box lists the templates and filters them as one types; {fields} become a small form.
const words = JSON.parse(document.getElementById("words").textContent);
const list = document.getElementById("starter-list"), sheet = document.getElementById("starter-sheet");
const FIELD = /\{([^{}\n]{1,40})\}/g;
let all, at = 0;

export async function typed(composer) {
  const wanted = composer.text.value;
  if (!wanted.startsWith("/") || wanted.includes("\n")) return close(composer);
  all ??= await fetch(list.dataset.src).then((answer) => answer.json()).then(({ templates }) => templates, () => null);
  if (!all) return close(composer); // offline: the slash is a slash
  const sought = composer.text.value.slice(1).trim().toLocaleLowerCase();
  const found = all.filter(({ title, text }) => `${title}\n${text}`.toLocaleLowerCase().includes(sought));
  at = 0;
  list.replaceChildren(...found.map((starter, number) => option(composer, starter, number)));
  if (!found.length) return close(composer);
  composer.menu = { press: (event) => press(composer, event) };
  if (!list.matches(":popover-open")) list.showPopover({ source: composer.text });
  composer.text.setAttribute("aria-controls", list.id);
  move(composer, 0);
  document.getElementById("announce-status").textContent = words.templates_found.replace("%s", found.length);
}

export function use(composer, text) {
  close(composer);
  const names = [...new Set([...text.matchAll(FIELD)].map(([, name]) => name.trim()).filter(Boolean))];
  if (!names.length) return put(composer, text);
  const fields = names.map((name, number) => {
    const id = `starter-field-${number}`, row = Object.assign(document.createElement("div"), { className: "field" });
    const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: name, dir: "auto" });
    row.append(label, Object.assign(document.createElement("input"), { id, className: "input", name, required: true, autocomplete: "off", dir: "auto" }));
    return row;
  });
  sheet.querySelector("[data-body]").replaceChildren(...fields);
  sheet.querySelector("form").onsubmit = () => {
    const given = Object.fromEntries([...sheet.querySelectorAll("[data-body] input")].map(({ name, value }) => [name, value]));
    put(composer, text.replace(FIELD, (whole, name) => given[name.trim()] ?? whole));
  };
  sheet.showModal();
}

function put(composer, text) {
  composer.text.value = text;
  composer.text.dispatchEvent(new Event("input", { bubbles: true })); // a draft like any other
  composer.text.focus();
}

function option(composer, { title, text, needs }, number) {
  const name = Object.assign(document.createElement("span"), { textContent: title, dir: "auto" });
  name.append(Object.assign(document.createElement("small"), { textContent: needs || text.slice(0, 80) }));
  const row = Object.assign(document.createElement("button"), { type: "button", role: "option", id: `starter-${number}`, tabIndex: -1 });
  row.append(name);
  row.addEventListener("click", () => use(composer, text));
  return row;
}

function move(composer, by) {
  at = Math.max(0, Math.min(at + by, list.children.length - 1));
  [...list.children].forEach((row, number) => row.setAttribute("aria-selected", String(number === at)));
  composer.text.setAttribute("aria-activedescendant", `starter-${at}`);
  list.children[at].scrollIntoView({ block: "nearest" });
}

function press(composer, event) {
  const by = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  if (by) move(composer, by);
  else if (["Enter", "Tab"].includes(event.key)) list.children[at].click();
  else if (event.key === "Escape") close(composer);
  else return false;
  event.preventDefault();
  return true;
}

function close(composer) {
  composer.menu = null;
  if (list.matches(":popover-open")) list.hidePopover();
  for (const name of ["aria-controls", "aria-activedescendant"]) composer.text.removeAttribute(name);
}
