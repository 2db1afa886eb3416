// sign-up.js: <sign-up-offer> shows its dialog in front of the page when a limit was met, and again when a link asks for it.
// What was written is on the server by then; the draft in the browser goes when the account is made, or it would be sent twice.
customElements.define("sign-up-offer", class extends HTMLElement {
  connectedCallback() {
    const dialog = this.querySelector("dialog");
    if (dialog?.open) this.show(dialog);
    this.addEventListener("submit", (event) => event.submitter?.formMethod !== "dialog" && this.forgetDraft());
    this.addEventListener("click", (event) => event.target.closest("a") && this.forgetDraft());
  }

  show(dialog) {
    dialog.close(); // without JavaScript it is open beside the page; here it stands in front of it
    dialog.showModal();
  }

  forgetDraft() {
    const chat = document.getElementById("composer-form")?.dataset.chat;
    try {
      localStorage.removeItem(`draft::${chat}`); // as outbox.js names it for somebody without an account
    } catch {} // storage can be forbidden
  }
});

document.addEventListener("click", (event) => {
  const dialog = document.querySelector("sign-up-offer dialog");
  if (!event.target.closest("[data-sign-up]") || !dialog) return;
  event.preventDefault();
  dialog.showModal();
});
