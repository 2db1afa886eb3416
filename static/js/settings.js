// settings.js: <settings-search> hides the sections and lines that have none of the words; what was saved is said for a while.
customElements.define("settings-search", class extends HTMLElement {
  connectedCallback() {
    this.hidden = false;
    const none = document.getElementById("nothing-found");
    const status = this.querySelector("[role=status]");
    this.querySelector("input").addEventListener("input", ({ target }) => {
      const words = fold(target.value).split(/\s+/).filter(Boolean);
      const sections = [...document.querySelectorAll(".settings > .panel")];
      for (const section of sections) section.hidden = !words.every((word) => fold(section.textContent).includes(word));
      none.hidden = sections.some((section) => !section.hidden);
      status.textContent = none.hidden ? "" : status.dataset.none;
    });
  }
});

const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

document.addEventListener("htmx:after:swap", () => {
  for (const said of document.querySelectorAll(".said:not(:has(.field-error))")) setTimeout(() => said.replaceChildren(), 2000);
});
