// notices.js: the list of notifications grows as they come, and follows what is read in another tab; earlier ones are added below.
const list = () => document.querySelector("#notices .notices");
let fetching = Promise.resolve();

document.addEventListener("bell:look", ({ detail: { count, newest } }) => {
  if (count === 0) document.querySelectorAll("#notices .is-new").forEach(read);
  const isShown = !newest || document.getElementById(`notice-${newest.id}`)?.textContent.includes(newest.title);
  if (location.search || (isShown && count === document.querySelectorAll("#notices .is-new").length)) return;
  fetching = fetching.then(() => fetched(location.pathname)).then((page) => page && merge(page));
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-notices]") || event.submitter?.name === "follow") return;
  event.preventDefault();
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form) }).catch(() => null);
  if (!answer?.ok) return form.submit(); // the page that comes then says why
  const own = form.closest(".notice"), next = own ? [own] : document.querySelectorAll("#notices .is-new");
  if (own?.contains(document.activeElement)) focus(own);
  next.forEach(read);
});

document.addEventListener("click", async (event) => {
  const more = event.target.closest("#earlier");
  if (!more || !list() || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const page = await fetched(more.href);
  if (!page) return location.assign(more.href);
  const added = [...(page.querySelector("#notices .notices")?.children ?? [])].filter(({ id }) => !document.getElementById(id)).map((row) => document.importNode(row, true));
  list().append(...added);
  if (added[0]) focus(added[0]);
  const further = page.getElementById("earlier");
  further ? more.replaceWith(document.importNode(further, true)) : more.parentElement.remove();
});

async function fetched(address) {
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok || answer.redirected) return null;
  return new DOMParser().parseFromString((await answer.text()).replace(/<style.*?<\/style>/gs, ""), "text/html");
}

function merge(page) { // rows that are there stay, so that nobody loses the place
  const there = page.querySelector("#notices .notices"), here = list();
  if (!there) return;
  if (!here) return location.reload(); // the first of all
  let before = here.firstElementChild;
  for (const row of [...there.children]) {
    const old = document.getElementById(row.id);
    if (!old) here.insertBefore(document.importNode(row, true), before);
    if (old && old === before) before = old.nextElementSibling;
    if (old && old.textContent !== row.textContent && !old.contains(document.activeElement)) old.replaceWith(document.importNode(row, true));
    else if (old && !row.matches(".is-new")) read(old);
  }
}

function read(row) {
  row.classList.remove("is-new");
  row.querySelectorAll("[data-unread]").forEach((one) => one.remove());
}

function focus(row) {
  row.tabIndex = -1;
  row.focus({ preventScroll: false });
}
