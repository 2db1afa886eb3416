// composer.js: <chat-composer> sends with Enter, shows the question at once, never loses one or sends it twice, and turns
// Send into Stop while an answer runs. The server answers with partials; refused text comes back into the box.
import { toEnd } from "./jump.js";
import { Outbox, uuid } from "./outbox.js";

const words = JSON.parse(document.getElementById("words").textContent);
const finePointer = matchMedia("(pointer: fine)");
const PENDING = "pending:"; // begins the key of what waits on the server since before its author had an account
const WARN_S = 120, MOST_TIMER_MS = 2 ** 31 - 1;
const byId = (id) => document.getElementById(id);
const withField = (item, field, value) => ({ ...item, fields: item.fields.map(([name, was]) => [name, name === field ? value : was]) });

customElements.define("chat-composer", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("keydown", (event) => this.press(event));
    this.addEventListener("input", (event) => this.typed(event));
    this.addEventListener("change", () => this.drawPrice());
    this.addEventListener("submit", (event) => this.submit(event), { capture: true });
    document.addEventListener("click", (event) => this.click(event));
    document.addEventListener("htmx:after:swap", () => this.drawPrice()); // the server named it for the model that answered
    document.addEventListener("turn:end", () => this.ended());
    for (const name of ["turn:begin", "turn:end", "turn:stuck"]) document.addEventListener(name, () => this.drawButtons());
    for (const name of ["online", "offline"]) addEventListener(name, () => this.drawOffline());
    addEventListener("storage", (event) => this.keepOwn(event));

    this.path = location.pathname; // a chat that began here has pushed its own: the way back is another page
    addEventListener("popstate", () => location.pathname === this.path || location.reload());

    this.text.value = this.drafted();
    for (const item of this.outbox.items) this.park(item, item.why);
    if (finePointer.matches && !document.querySelector(".msg")) this.text.focus();
    this.drawButtons();
    this.drawOffline();
    this.drawPrice();
    const warnIn = (Number(this.dataset.sessionEnds || Infinity) - WARN_S) * 1000;
    if (warnIn < MOST_TIMER_MS) setTimeout(() => this.signIn((page) => page.warn(this)), Math.max(0, warnIn));
  }

  // What the server gave, or what was made of it here, if it is a message that waits there; else what was written here last.
  // What somebody wrote without an account comes with them, and what waits in the thread under its key: what had arrived is
  // not asked twice.
  drafted() {
    const given = this.text.value, visitors = new Outbox("", this.chat), { owner } = this.dataset;
    if (owner) {
      for (const item of visitors.items) if (item.text.trim() !== given.trim()) this.outbox.put(withField(item, "owner", owner));
      visitors.items = [];
    }
    const isEdited = this.waits ? this.outbox.read("of") === this.key : document.querySelector("sign-up-offer[data-text]");
    if (given && !isEdited) return given;
    if (owner && !this.outbox.draft && !given) [this.outbox.draft, visitors.draft] = [visitors.draft, ""];
    return this.outbox.draft || given;
  }

  // Tabs of one chat share its draft. What another one sent is a draft no more; other words of this box still are one.
  keepOwn({ key, oldValue }) {
    const { outbox, text } = this;
    if (key === outbox.name("draft") && !outbox.draft && text.value !== text.defaultValue && text.value !== oldValue) outbox.draft = text.value;
  }

  get key() { return this.form.elements.idempotency_key.value; }
  get waits() { return this.key.startsWith(PENDING); }
  get form() { return this.querySelector("form"); } // it is replaced when a chat begins
  get text() { return this.form.elements.text; }
  get chat() { return this.form.dataset.chat; }
  get outbox() { return new Outbox(this.dataset.owner ?? "", this.chat); }
  get stream() { return document.querySelector("chat-stream"); }
  get note() { return byId("composer-note"); }
  get token() { return this.form.elements.csrfmiddlewaretoken; }

  press(event) {
    if (event.target !== this.text || event.isComposing || event.keyCode === 229) return; // an IME owns the key
    if (this.menu?.press(event)) return;
    if (event.key === "Escape" && this.stream) return this.stop();
    if (event.key !== "Enter") return;
    const always = event.ctrlKey || event.metaKey;
    const line = document.documentElement.dataset.enter === "line";
    if (!always && (line || event.shiftKey || event.altKey || !finePointer.matches)) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  typed(event) {
    if (event.target !== this.text) return this.drawTuned();
    this.outbox.draft = this.text.value;
    this.outbox.write("of", this.waits ? this.key : "");
    if (this.text.value.startsWith("/") || this.menu) this.starters((list) => list.typed(this));
  }

  click(event) {
    const on = (name) => event.target.closest(`[data-${name}]`);
    const card = on("starter"), bubble = event.target.closest("[data-key]");
    if (this.contains(event.target) && on("stop")) this.stop();
    else if (on("close")) on("close").closest("dialog").close();
    else if (on("reset-options")) this.resetOptions();
    else if (on("send-waiting")) this.flush();
    else if (on("keep-waiting")) byId("composer-waiting").hidden = true;
    else if (bubble && on("resend")) this.send(this.asPicked(this.outbox.items.find(({ key }) => key === bubble.dataset.key)));
    else if (bubble && on("rewrite")) this.rewrite(bubble);
    else if (card && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.starters((list) => list.use(this, card.dataset.starter));
    }
  }

  submit(event) {
    if (event.target !== this.form || event.submitter?.hasAttribute("formaction")) return; // what does not ask goes its own way
    event.preventDefault();
    const text = this.text.value.trim();
    if (this.stream || this.sending || !text) return;
    const fields = [...new FormData(this.form)].filter(([name, value]) => name !== "csrfmiddlewaretoken" && typeof value === "string");
    const key = this.form.elements.idempotency_key;
    const item = { key: key.value, text: this.text.value, fields };
    this.text.value = "";
    key.value = uuid(); // whatever becomes of this one, the next is another
    if (navigator.onLine) return this.send(item);
    this.wait(item, words.waits);
    this.outbox.draft = "";
  }

  // One question, from here to the server's answer. The same item may come again: its key makes that one question.
  async send(item) {
    if (!item || this.sending || this.stream) return;
    const { outbox, form } = this; // by the time the answer is here, "new" has become an address
    const bubble = this.show(item);
    this.mark(bubble);
    this.note.hidden = true;
    byId("composer-error")?.remove();
    toEnd();
    this.sending = true;
    document.dispatchEvent(new Event("question:sending"));
    outbox.put({ ...item, isRefused: false, why: words.not_sent }); // should the page go away before the answer, its key still makes it one
    outbox.draft = this.text.value;
    const body = new URLSearchParams();
    for (const [name, value] of [...item.fields.filter(([name]) => name !== "idempotency_key"), ["idempotency_key", item.key]]) body.append(name, value);
    body.append("csrfmiddlewaretoken", this.token.value);
    const answer = await fetch(form.action, { method: "POST", body, headers: { "HX-Request": "true" } }).catch(() => null);
    const html = await answer?.text().catch(() => null);
    this.sending = false;
    if (html === null || html === undefined) return this.wait(item, words.not_sent);
    if (answer.ok) return this.sent(item, bubble, outbox, answer, html);
    const said = new DOMParser().parseFromString(html.replace(/<style.*?<\/style>/gs, ""), "text/html").querySelector("#composer-note p");
    if (answer.status >= 500 || [409, 429].includes(answer.status)) {
      return this.wait({ ...item, isRefused: [429, 503].includes(answer.status) }, said?.textContent ?? words.refused);
    }
    if (answer.status === 403 && !item.isSecond) return this.reenter(answer, () => this.send({ ...item, isSecond: true }));
    if (answer.status === 401) {
      this.mark(bubble, words.session_over);
      return this.reenter(answer, () => this.send(item));
    }
    outbox.take(item.key);
    this.giveBack(item);
    if (item.key.startsWith(PENDING)) this.form.elements.idempotency_key.value = item.key; // it waits there still
    bubble.remove();
    if (said) await htmx.swap({ text: html, target: byId("thread"), sourceElement: form, swap: "none" });
    else this.tell(words.refused);
  }

  // What was refused was never asked, so it may go to the model that is picked by now; what may have arrived stays as it was.
  asPicked(item) {
    const { provider } = this.form.elements;
    return item?.isRefused && provider ? withField(item, "provider", provider.value) : item;
  }

  async sent(item, bubble, outbox, answer, html) {
    const price = byId("composer-price").dataset.plan, draft = this.text.value;
    bubble.remove();
    outbox.take(item.key);
    const waiting = outbox.items.length ? outbox.items : null;
    await htmx.swap({ text: html, target: byId("thread"), sourceElement: this.form, swap: "beforeend" });
    for (const message of byId("thread").querySelectorAll(".msg[id]")) { // it had arrived before, and is here twice
      if (document.querySelectorAll(`#${CSS.escape(message.id)}`).length > 1) message.remove();
    }
    const address = answer.headers.get("HX-Push-Url");
    if (address) history.pushState(null, "", address);
    this.path = location.pathname;
    if (waiting && outbox.chat !== this.chat) [outbox.items, this.outbox.items] = [[], waiting];
    this.text.value ||= draft; // what was typed meanwhile
    if (this.text.value && outbox.chat !== this.chat) [outbox.draft, this.outbox.draft] = ["", this.text.value];
    byId("composer-price").dataset.plan ||= price; // of a new chat it is named with the end of its first answer
    this.drawPrice();
    this.drawButtons();
    if (finePointer.matches) this.text.focus();
  }

  // The question stays where it is, with Send again and Edit, also after a reload.
  wait(item, why) {
    this.outbox.put({ ...item, why });
    this.park(item, why);
    this.isFlushing = false;
    if (finePointer.matches) this.text.focus();
  }

  park(item, why) { // with its files: the next question has its own
    const bubble = this.show(item);
    for (const [name, value] of item.fields) {
      const file = name === "attachment" && byId(`file-${value}`);
      if (file) this.carry(file, bubble.querySelector("ul"), true);
    }
    this.mark(bubble, why);
  }

  carry(file, to, isParked) {
    file.querySelector("[data-remove]").hidden = isParked;
    to.append(file);
  }

  show(item) {
    const there = document.querySelector(`[data-key="${CSS.escape(item.key)}"]`);
    if (there) return there;
    const bubble = byId("pending-question").content.cloneNode(true).firstElementChild;
    bubble.dataset.key = item.key;
    bubble.querySelector(".bubble").textContent = item.text;
    byId("thread").append(bubble);
    return bubble;
  }

  mark(bubble, why = "") {
    bubble.querySelector("p").textContent = why;
    bubble.querySelector(".note").hidden = !why;
    if (why) byId("announce-status").textContent = why;
  }

  rewrite(bubble) {
    const item = this.outbox.items.find(({ key }) => key === bubble.dataset.key);
    this.outbox.take(bubble.dataset.key);
    this.giveBack(item);
    bubble.remove();
    this.text.focus();
    this.drawOffline();
  }

  giveBack(item) {
    for (const file of document.querySelectorAll(`[data-key="${CSS.escape(item.key)}"] .attach`)) this.carry(file, byId("files"), false);
    this.text.value = this.text.value.trim() ? `${item.text}\n\n${this.text.value}` : item.text;
    this.outbox.draft = this.text.value;
    if (finePointer.matches) this.text.focus();
  }

  tell(sentence) {
    this.note.querySelector("p").textContent = sentence;
    for (const way of this.note.querySelectorAll("a, button")) way.hidden = true; // they led on from what was said before
    this.note.hidden = false;
  }

  flush() { // one after the other: the next when the answer before it has ended
    this.isFlushing = true;
    byId("composer-waiting").hidden = true;
    this.send(this.outbox.items[0]);
  }

  ended() {
    const { instead } = this;
    this.instead = null;
    if (instead) {
      instead.closest("pick-one").choose(instead);
      [...document.querySelectorAll("[data-picked]")].at(-1)?.click(); // asked again, as message-actions.js does it
    } else if (this.isFlushing) this.flush();
  }

  another(name) { // model than the one of this name, and the way to it: what has not answered yet is not counted
    const options = [...this.querySelectorAll("#pick-provider [role=option]:not([aria-disabled=true])")];
    const nameOf = (option) => option.querySelector("[data-name]").textContent;
    const other = options.find((option) => nameOf(option) !== name);
    return other && { name: nameOf(other), use: () => ((this.instead = other), this.stop()) };
  }

  async stop() {
    const button = this.querySelector("[data-stop]");
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true"; // not disabled: that would take the focus away
    await this.stream?.stop();
  }

  async starters(work) { work(await import("./later/starters.js")); }

  async signIn(work) { work(await import("./later/session.js")); }

  // What was refused because the session is over, or only its token, is done again when somebody has signed in over the page.
  reenter({ status }, again) {
    return this.signIn(async (page) => (status === 403 && (await page.renew(this)) ? again() : page.ask(this, again)));
  }

  resetOptions() {
    for (const field of this.querySelectorAll("#chat-options .input")) field.value = "";
    this.drawTuned();
  }

  drawTuned() { // of a new chat: the server says it of one that is there
    const fields = [...this.querySelectorAll("#chat-options .input[form]")];
    if (fields.length) byId("tuned").hidden = !fields.some(({ value }) => value.trim());
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
    const price = byId("composer-price");
    price.textContent = picked?.hasAttribute("data-own-key") ? price.dataset.own : price.dataset.plan;
    for (const chip of this.querySelectorAll("[data-cost]")) {
      chip.textContent = price.dataset.plan;
      chip.hidden = !price.dataset.plan;
    }
  }

  drawOffline() {
    const waiting = this.outbox.items.length, strip = byId("composer-waiting");
    this.querySelector("[data-offline]").hidden = navigator.onLine;
    strip.hidden = !navigator.onLine || !waiting || this.isFlushing;
    strip.querySelector("p").textContent = words.waiting.replace("%s", waiting);
  }
});
