// palette.js: search and commands in one list (a combobox whose focus stays in its field). keys.js fetches it when it is
// first asked for; the server draws the list anew for what is typed.
const WAIT_MS = 120;
let dialog, field, list, status, asked, timer;

export async function open(src) {
  if (document.querySelector("dialog[open]")) return;
  if (!dialog && !(await load(src))) return; // from then on it is there at once: what is typed next goes into it
  field.value = "";
  dialog.showModal();
  field.focus();
  fill(src, "");
}

async function load(src) {
  const html = await part(src);
  if (html === null) return location.assign(src.replace(/palette\/$/, "")); // the page of search says what is wrong
  if (dialog) return true; // asked for twice
  document.body.insertAdjacentHTML("beforeend", html);
  const looks = document.body.querySelector("link[rel=stylesheet]:last-of-type");
  if (!looks.sheet) await new Promise((done) => (looks.onload = looks.onerror = done));
  dialog = document.getElementById("palette");
  field = dialog.querySelector("input");
  list = dialog.querySelector("[role=listbox]");
  status = dialog.querySelector("[role=status]");
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(fill, WAIT_MS, src, field.value);
  });
  field.addEventListener("keydown", press);
  list.addEventListener("pointermove", ({ target }) => choose(target.closest("[role=option]")));
  list.addEventListener("click", (event) => act(event, event.target.closest("[role=option]")));
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // beside it
  return true;
}

async function part(url) {
  asked?.abort();
  asked = new AbortController();
  try {
    const response = await fetch(url, { signal: asked.signal, headers: { "X-Requested-With": "palette" } });
    return response.ok && !response.redirected ? await response.text() : null;
  } catch (error) {
    return error.name === "AbortError" ? undefined : null;
  }
}

async function fill(src, typed) {
  const html = await part(`${src}?q=${encodeURIComponent(typed)}`);
  if (html === undefined) return; // something newer was typed
  if (html !== null) list.innerHTML = html; // ours, escaped by the server
  for (const option of list.querySelectorAll("[data-press]")) if (!document.querySelector(option.dataset.press)) option.remove();
  for (const group of list.querySelectorAll("[role=group]")) if (!group.querySelector("[role=option]")) group.remove();
  choose(options()[0]);
  status.textContent = list.querySelector("[data-status]").textContent;
}

const options = () => [...list.querySelectorAll("[role=option]")];
const chosen = () => list.querySelector("[aria-selected=true]");

function choose(option) {
  if (!option) return;
  chosen()?.setAttribute("aria-selected", "false");
  option.setAttribute("aria-selected", "true");
  option.scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", option.id);
}

function press(event) {
  if (event.isComposing || event.keyCode === 229) return; // an input method owns the key
  const all = options(), at = all.indexOf(chosen());
  const to = { ArrowDown: (at + 1) % all.length, ArrowUp: (at - 1 + all.length) % all.length, PageDown: all.length - 1, PageUp: 0 }[event.key];
  if (to !== undefined) choose(all[to]);
  else if (event.key === "Enter") chosen()?.click();
  else return;
  event.preventDefault();
}

function act(event, option) {
  if (!option) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab
  dialog.close(); // gives the focus back
  const { press } = option.dataset;
  if (press) document.querySelector(press)?.click();
}
