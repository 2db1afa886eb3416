// rows.js: a table of rows by keyboard: Up and Down, Enter opens, X chooses, Shift X up to here, Delete. The forms around it
// work without; filters are sent as soon as one is changed.
import { toasts } from "./toast.js";

const form = document.querySelector("[data-rows]");
const singleKeys = () => document.querySelector("[data-single-keys]")?.checked !== false;
toasts();
document.querySelector("[data-filters]")?.addEventListener("change", (event) => {
  if (event.target.type !== "date" || event.target.value.length !== 9) event.currentTarget.requestSubmit();
});

if (form) {
  const rows = [...form.querySelectorAll("[data-row]")], all = form.querySelector("[data-all]"), said = form.querySelector("[data-chosen]");
  const box = (row) => row.querySelector("[type=checkbox]"), sentence = said.textContent;
  let last = -1; // where a range begins

  const draw = () => {
    const chosen = rows.filter((row) => box(row).checked).length;
    all.checked = chosen === rows.length;
    all.indeterminate = chosen > 0 && chosen < rows.length;
    said.hidden = chosen === 0;
    said.textContent = sentence.replace("%s", chosen);
  };
  const choose = (at, upTo) => {
    const wanted = upTo && last >= 0 ? true : !box(rows[at]).checked;
    const [from, to] = upTo && last >= 0 ? [Math.min(last, at), Math.max(last, at)] : [at, at];
    for (const row of rows.slice(from, to + 1)) box(row).checked = wanted;
    last = at;
    draw();
  };

  all.addEventListener("change", () => {
    for (const row of rows) box(row).checked = all.checked;
    draw();
  });
  form.addEventListener("click", (event) => {
    const at = rows.indexOf(event.target.closest("[data-row]"));
    if (at < 0 || event.target.type !== "checkbox") return;
    if (event.shiftKey) {
      box(rows[at]).checked = !box(rows[at]).checked; // choose() decides
      choose(at, true);
    } else last = at;
    draw();
  });
  form.addEventListener("submit", (event) => {
    if (event.submitter?.name === "all" || rows.some((row) => box(row).checked)) return;
    event.preventDefault();
    all.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("select, textarea, dialog, [popover], input:not([type=checkbox])")) return;
    const at = rows.indexOf(event.target.closest("[data-row]"));
    const to = { ArrowDown: Math.min(at + 1, rows.length - 1), ArrowUp: Math.max(at - 1, 0), Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined && (at >= 0 || event.key.startsWith("Arrow"))) rows[to].querySelector("a").focus();
    else if (at >= 0 && event.key.toLowerCase() === "x" && singleKeys()) choose(at, event.shiftKey);
    else if (at >= 0 && event.key === "Delete" && form.querySelector("[data-delete]")) {
      if (!rows.some((row) => box(row).checked)) choose(at);
      form.requestSubmit(form.querySelector("[data-delete]"));
    } else return;
    event.preventDefault();
  });
  addEventListener("pageshow", draw); // a browser that goes back brings its ticks along
}
