// sign-up.js: <sign-up-offer> shows its dialog in front of the page when a limit was met, and again when a link asks for it.
// What was written is on the server by then (`data-text`), so the browser's draft of the same words goes: it would be sent twice.
import { Outbox } from "./outbox.js";

const form = () => document.getElementById("composer-form");

customElements.define("sign-up-offer", class extends HTMLElement {
  connectedCallback() {
    const dialog = this.querySelector("dialog");
    if (dialog?.open) this.show(dialog);
    const outbox = new Outbox("", form()?.dataset.chat);
    if (this.dataset.text && outbox.draft.trim() === this.dataset.text.trim()) outbox.draft = "";
  }

  show(dialog) {
    dialog.close(); // without JavaScript it is open beside the page; here it stands in front of it
    dialog.showModal();
  }
});

document.addEventListener("click", (event) => {
  const offer = document.querySelector("sign-up-offer"), dialog = offer?.querySelector("dialog");
  if (!event.target.closest("[data-sign-up]") || !dialog) return;
  event.preventDefault();
  const text = form().elements.text.value.trim();
  if (text && text !== offer.dataset.text.trim()) form().requestSubmit(); // what was written since has to wait on the server too
  else dialog.showModal();
});
