// theme.js: <theme-switch> shows the chosen colours at once, and the next page has them however soon it is asked for: the
// cookie is written at once, and the form around the switch stores the choice. The server draws in it, so nothing flashes.
import { remember, store } from "./prefs.js";

customElements.define("theme-switch", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", ({ target: { form, value } }) => {
      if (value) document.documentElement.dataset.theme = value;
      else delete document.documentElement.dataset.theme;
      remember("theme", value || null);
      if (form.hasAttribute("data-store")) store(form); // else htmx sends it
    });
  }
});
