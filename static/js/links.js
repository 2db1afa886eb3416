// links.js: a link in an answer shows where it leads before it is followed, unless its words are the whole address.
const sheet = document.getElementById("link-sheet");
const target = sheet.querySelector("[data-target]"), open = sheet.querySelector("a");

for (const name of ["click", "auxclick"]) {
  document.addEventListener(name, (event) => {
    const link = event.target.closest(".prose a[href]");
    if (!link || event.button > 1 || saysItself(link)) return;
    event.preventDefault();
    target.textContent = open.href = link.href; // normalised: a foreign alphabet in a host name shows as xn--
    sheet.showModal();
  });
}
open.addEventListener("click", () => sheet.close());

function saysItself({ href, textContent }) {
  return textContent === href || `${textContent}/` === href;
}
