// copy-link.js: <copy-link> puts a link into the clipboard; without it the field can be marked and copied by hand.
customElements.define("copy-link", class extends HTMLElement {
  connectedCallback() {
    const [field, button, said] = ["input", "button", "[role=status]"].map((part) => this.querySelector(part));
    button.hidden = false;
    field.addEventListener("focus", () => field.select());
    button.addEventListener("click", async () => {
      field.select();
      await navigator.clipboard.writeText(field.value).then(() => (said.textContent = said.dataset.done), () => {});
    });
  }
});
