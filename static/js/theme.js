// theme.js: <theme-switch> shows the chosen colours at once; the form around it stores them. The server draws the next
// page in them, so nothing flashes.
customElements.define("theme-switch", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", ({ target }) => {
      if (target.value) document.documentElement.dataset.theme = target.value;
      else delete document.documentElement.dataset.theme;
    });
  }
});
