// theme.js: sets the chosen colours before the first paint, so that nothing flashes; <theme-switch> changes them.
{
  const root = document.documentElement;
  const chosen = () => {
    try {
      return localStorage.getItem("theme") ?? "system";
    } catch {
      return "system"; // storage can be forbidden
    }
  };
  const apply = (theme) => (theme === "system" ? delete root.dataset.theme : (root.dataset.theme = theme));
  apply(chosen());

  customElements.define("theme-switch", class extends HTMLElement {
    connectedCallback() {
      addEventListener("DOMContentLoaded", () => {
        this.querySelector("fieldset").hidden = false;
        this.querySelector(`[value="${chosen()}"]`).checked = true;
      });
      this.addEventListener("change", (event) => {
        apply(event.target.value);
        try {
          localStorage.setItem("theme", event.target.value);
        } catch {} // then it lasts for this page
      });
    }
  });
}
