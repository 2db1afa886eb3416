// toast.js: what was just done can be taken back for ten seconds, longer while it has the pointer or the focus.
const SHOWN_MS = 10_000;

export function toasts(place = document.getElementById("toasts")) {
  const toast = place?.querySelector("[data-toast]");
  if (!toast) return null;
  let timer;
  const wait = () => (timer = setTimeout(() => toast.remove(), SHOWN_MS));
  for (const name of ["pointerenter", "focusin"]) toast.addEventListener(name, () => clearTimeout(timer));
  for (const name of ["pointerleave", "focusout"]) toast.addEventListener(name, () => (clearTimeout(timer), wait()));
  wait();
  return toast;
}
