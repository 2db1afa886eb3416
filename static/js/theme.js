// theme.js: <theme-switch> shows the chosen colours at once, and the next page has them however soon it is asked for: the
// cookie is written here, and the form around the switch stores the choice. The server draws in it, so nothing flashes.
customElements.define("theme-switch", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", ({ target: { form, value } }) => {
      if (value) document.documentElement.dataset.theme = value;
      else delete document.documentElement.dataset.theme;
      const told = document.cookie.match(/(?:^|; )prefs="?([^";]*)/)?.[1] ?? "";
      const prefs = new URLSearchParams(told);
      if (value) prefs.set("theme", value);
      else prefs.delete("theme");
      document.cookie = `prefs=${prefs}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
      if (!form.hasAttribute("data-store")) return; // htmx sends it
      fetch(form.action, { method: "POST", body: new FormData(form), keepalive: true, headers: { "HX-Request": "true" } }).catch(() => {});
    });
  }
});
