// composer.js: <chat-composer> sends with Enter, keeps the draft, never sends a message twice or loses one,
// and turns Send into Stop while an answer runs. htmx makes the request; the server answers with partials.
const words = JSON.parse(document.getElementById("words").textContent);
const finePointer = matchMedia("(pointer: fine)");

customElements.define("chat-composer", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("keydown", (event) => this.press(event));
    this.addEventListener("input", () => this.keepDraft());
    this.addEventListener("change", () => this.drawPrice());
    this.addEventListener("submit", (event) => this.beforeSend(event), { capture: true });
    this.addEventListener("click", (event) => event.target.closest("[data-stop]") && this.stop());
    document.addEventListener("click", (event) => this.askAgain(event.target.closest("[data-again]")));
    document.addEventListener("htmx:before:request", () => this.sending());
    document.addEventListener("htmx:after:swap", (event) => this.answered(event.detail.ctx));
    document.addEventListener("htmx:after:swap", () => this.drawPrice()); // the server named it for the model that answered
    document.addEventListener("htmx:error", () => this.failed(words.not_sent));
    for (const name of ["turn:begin", "turn:end", "turn:stuck"]) {
      document.addEventListener(name, () => this.drawButtons());
    }
    for (const name of ["online", "offline"]) addEventListener(name, () => this.drawOffline());
    document.querySelector("[data-forget-drafts]")?.addEventListener("submit", forgetDrafts);

    if (!this.text.value) this.text.value = readDraft(this.chat);
    if (finePointer.matches && !document.querySelector(".msg")) this.text.focus();
    this.drawButtons();
    this.drawOffline();
    this.drawPrice();
  }

  get form() { return this.querySelector("form"); } // it is replaced when a chat begins or a message is refused
  get text() { return this.form.elements.text; }
  get chat() { return this.form.dataset.chat; }
  get stream() { return document.querySelector("chat-stream"); }
  get note() { return document.getElementById("composer-note"); }

  press(event) {
    if (event.target !== this.text || event.isComposing || event.keyCode === 229) return; // an IME owns the key
    if (event.key === "Escape" && this.stream) return this.stop();
    if (event.key !== "Enter") return;
    const always = event.ctrlKey || event.metaKey;
    if (!always && (event.shiftKey || event.altKey || !finePointer.matches)) return;
    event.preventDefault();
    if (this.text.value.trim()) this.form.requestSubmit();
  }

  beforeSend(event) {
    if (this.stream || !this.text.value.trim() || !navigator.onLine) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return this.drawOffline();
    }
    if (this.tried !== undefined && this.tried !== this.text.value) this.renewKey(); // a corrected text is a new message
    this.tried = this.text.value;
  }

  sending() {
    this.sentFrom = this.chat; // by the time the answer is here, "new" has become an address
    this.note.hidden = true;
    document.getElementById("composer-error")?.remove();
    const pending = document.getElementById("pending-question").content.cloneNode(true);
    pending.querySelector(".bubble").textContent = this.tried;
    this.pending = pending.firstElementChild;
    document.getElementById("thread").append(this.pending);
    document.getElementById("transcript").scrollTop = 0;
    this.text.value = "";
    this.text.readOnly = true;
  }

  answered(ctx) {
    if (!ctx.response || !this.pending) return; // a swap of chat-stream.js
    if (ctx.response.status < 400) this.sent();
    else if (!this.note.hidden || document.getElementById("composer-error")) this.giveBack();
    else if (ctx.response.status === 403) this.failed(words.stale, { canRetry: false }); // its CSRF token is no longer good
    else this.failed(words.refused);
  }

  sent() {
    writeDraft(this.sentFrom, "");
    this.giveBack("");
    this.renewKey();
    this.tried = undefined;
    this.drawButtons();
  }

  failed(sentence, { canRetry = true } = {}) {
    if (!this.pending) return;
    this.giveBack();
    this.note.querySelector("p").textContent = sentence;
    for (const way of this.note.querySelectorAll("a")) way.remove(); // they led on from what was said before
    this.note.querySelector("[data-retry]").hidden = !canRetry;
    this.note.hidden = false;
  }

  giveBack(text = this.tried) {
    this.pending?.remove();
    this.pending = null;
    this.text.readOnly = false;
    this.text.value ||= text;
    if (finePointer.matches) this.text.focus();
  }

  renewKey() {
    this.form.elements.idempotency_key.value = uuid();
  }

  askAgain(button) {
    if (!button) return;
    const question = [...document.querySelectorAll(".msg--user .bubble")].at(-1).textContent;
    const hasDraft = Boolean(this.text.value.trim());
    this.text.value = hasDraft ? `${question}\n\n${this.text.value}` : question;
    hasDraft ? this.text.focus() : this.form.requestSubmit();
  }

  async stop() {
    const button = this.querySelector("[data-stop]");
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true"; // not disabled: that would take the focus away
    await this.stream?.stop();
  }

  keepDraft() {
    writeDraft(this.chat, this.text.value);
  }

  drawButtons() {
    const running = Boolean(this.stream);
    const [stop, send] = [this.querySelector("[data-stop]"), this.querySelector("[data-send]")];
    const hadFocus = document.activeElement === stop;
    stop.hidden = !running;
    stop.ariaBusy = null;
    send.hidden = running;
    if (hadFocus && !running && finePointer.matches) this.text.focus();
  }

  drawPrice() {
    const picked = this.querySelector(`#pick-provider [data-value="${CSS.escape(this.form.elements.provider.value)}"]`);
    const price = document.getElementById("composer-price");
    price.textContent = picked?.hasAttribute("data-own-key") ? price.dataset.own : price.dataset.plan;
  }

  drawOffline() {
    this.querySelector("[data-offline]").hidden = navigator.onLine;
  }
});

function readDraft(chat) {
  try {
    return localStorage.getItem(`draft:${chat}`) ?? "";
  } catch {
    return "";
  }
}

function writeDraft(chat, text) {
  try {
    text ? localStorage.setItem(`draft:${chat}`, text) : localStorage.removeItem(`draft:${chat}`);
  } catch {} // storage can be forbidden or full; the text is still in the box
}

function forgetDrafts() {
  try {
    Object.keys(localStorage).filter((key) => key.startsWith("draft:")).forEach((key) => localStorage.removeItem(key));
  } catch {}
}

function uuid() { // crypto.randomUUID is missing where a site is served without TLS
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
