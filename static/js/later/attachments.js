// attachments.js: <attach-files> sends what is chosen, dropped or pasted while the question is still being written, shows how
// the reading goes, and holds the question back until its files have arrived. attach.js fetches it; without it the form sends.
const LOOK_MS = 800;

customElements.define("attach-files", class extends HTMLElement {
  connectedCallback() { // the composer is replaced when a chat begins: what listens outside of it leaves with it
    const leaving = (this.leaving = new AbortController()).signal;
    const on = (target, name, act, how) => target.addEventListener(name, act.bind(this), { signal: leaving, ...how });
    this.form = this.closest("form");
    this.field = this.form.querySelector("input[type=file]");
    this.field.removeAttribute("name"); // files do not travel with the question from here
    const pane = this.closest("main") ?? this.form;
    on(this.field, "change", () => { this.take(this.field.files); this.field.value = ""; this.field.closest("[popover]").hidePopover(); });
    on(this, "click", (event) => { this.again(event); this.remove(event); });
    on(this.form, "paste", (event) => this.drop(event, event.clipboardData));
    on(pane, "dragover", (event) => this.hover(event, true));
    on(pane, "dragleave", (event) => event.relatedTarget && pane.contains(event.relatedTarget) || this.hover(event, false));
    on(pane, "drop", (event) => { this.hover(event, false); this.drop(event, event.dataTransfer); });
    on(document, "submit", (event) => this.hold(event), { capture: true });
    on(document, "question:sending", () => this.tell());
    this.draw();
  }

  disconnectedCallback() {
    this.leaving.abort();
    clearTimeout(this.timer);
  }

  get list() { return this.querySelector(".files"); } // the server empties it when they have gone with a question

  hover(event, isOver) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    this.form.toggleAttribute("data-over", isOver);
  }

  drop(event, data) {
    if (!data?.files.length) return;
    event.preventDefault();
    this.take(data.files);
  }

  take(files) {
    for (const file of files) {
      const chip = this.querySelector("template").content.cloneNode(true).firstElementChild;
      chip.file = file;
      chip.key = `${Date.now()}-${Math.random()}`; // of every try: what had arrived unheard is not there twice
      chip.querySelector("[data-name]").textContent = file.name;
      chip.querySelector(".ring").ariaLabel = file.name;
      for (const button of chip.querySelectorAll("[data-label]")) button.ariaLabel = button.dataset.label.replace("%s", file.name);
      const isTooMany = this.list.children.length >= Number(this.dataset.mostFiles);
      this.list.append(chip);
      const { tooMany, tooLarge, picture, mostMegabytes } = this.dataset;
      if (isTooMany) this.fail(chip, tooMany);
      else if (file.type.startsWith("image/")) this.fail(chip, picture);
      else if (file.size > Number(mostMegabytes) * 1024 ** 2) this.fail(chip, tooLarge);
      else this.send(chip);
    }
  }

  send(chip) {
    const { file, key } = chip;
    const request = chip.request = new XMLHttpRequest(); // fetch() does not say how far it is
    const headers = {
      "Content-Type": "application/octet-stream", Accept: "application/json, text/html", "X-File-Name": encodeURIComponent(file.name),
      "X-Conversation": this.dataset.chat, "X-CSRFToken": this.token, "Idempotency-Key": key,
    };
    request.open("POST", this.dataset.url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => this.progress(chip, Math.floor((100 * event.loaded) / (event.total || 1)));
    request.onload = () => this.arrived(chip, request);
    request.onerror = () => this.fail(chip, this.dataset.lost, true);
    this.progress(chip, 0);
    request.send(file);
  }

  get token() { return this.form.elements.csrfmiddlewaretoken.value; }

  progress(chip, percent) {
    chip.querySelector(".ring").setAttribute("aria-valuenow", percent);
    chip.querySelector("[data-words]").textContent = this.dataset.sending.replace("%s", percent);
    this.draw();
  }

  arrived(chip, request) {
    const { status } = request;
    if (status !== 201) {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch {} // a proxy's page
      return this.fail(chip, answer.detail ?? this.dataset.lost, status < 400 || status >= 500 || [408, 409, 429].includes(status));
    }
    this.put(chip, request.responseText);
    say(this.dataset.attached.replace("%s", chip.file.name));
    if (this.isHeld && !this.sending) {
      this.isHeld = false;
      this.form.requestSubmit();
    }
  }

  fail(chip, sentence, canTryAgain = false) {
    chip.querySelector("[data-again]").hidden = !canTryAgain;
    delete chip.dataset.sending;
    chip.dataset.state = "failed";
    chip.querySelector("[data-words]").textContent = sentence;
    this.isHeld = false;
    say(`${chip.querySelector("[data-name]").textContent}: ${sentence}`);
  }

  again(event) {
    const button = event.target.closest("[data-again]"), chip = button?.closest(".attach");
    if (!chip) return;
    button.hidden = true;
    chip.querySelector("[data-remove]").focus();
    delete chip.dataset.state;
    chip.dataset.sending = "";
    this.send(chip);
  }

  get sending() { return this.querySelector("[data-sending]"); }

  hold(event) {
    if (event.target !== this.form || !this.sending) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.isHeld = true;
    say(this.dataset.held);
  }

  put(chip, html) {
    const hadFocus = chip.contains(document.activeElement);
    const made = Object.assign(document.createElement("template"), { innerHTML: html }).content.firstElementChild;
    chip.replaceWith(made);
    if (hadFocus) made.querySelector("[data-remove]").focus();
    if (made.dataset.state === "failed") say(made.dataset.step);
    this.draw();
  }

  draw() {
    for (const ring of this.querySelectorAll(".ring")) ring.style.setProperty("--value", ring.getAttribute("aria-valuenow"));
    clearTimeout(this.timer);
    if (this.querySelector("[data-look]")) this.timer = setTimeout(() => this.look(), LOOK_MS);
    this.tell();
  }

  async look() {
    await Promise.all([...this.querySelectorAll("[data-look]")].map(async (chip) => {
      const answer = await fetch(chip.dataset.look).catch(() => null);
      if (!chip.isConnected) return;
      if (answer?.status === 404) chip.remove(); // it has gone with a question, in another tab
      else if (answer?.ok && !answer.redirected) this.put(chip, await answer.text());
    }));
    if (this.isConnected) this.draw();
  }

  tell() { // beside a question that is sent already, and waits for them
    const pending = document.querySelector("#thread > .is-pending"), unread = this.querySelector("[data-look]");
    if (!pending) return;
    let line = pending.querySelector(".waiting");
    if (unread && !line) pending.append(line = Object.assign(document.createElement("p"), { className: "waiting" }));
    if (line && unread) line.textContent = unread.dataset.step;
    else line?.remove();
    if (unread && !this.hasTold) say(unread.dataset.step);
    this.hasTold = Boolean(unread);
  }

  remove(event) {
    const button = event.target.closest("[data-remove]"), chip = button?.closest(".attach");
    if (!chip) return;
    event.preventDefault();
    chip.request?.abort();
    if (chip.id) {
      const headers = { "X-CSRFToken": this.token, Accept: "application/json" };
      fetch(button.getAttribute("formaction"), { method: "POST", headers }).catch(() => null); // forgotten after a day anyway
    }
    say(this.dataset.removed.replace("%s", chip.querySelector("[data-name]").textContent));
    const next = chip.nextElementSibling ?? chip.previousElementSibling;
    chip.remove();
    (next?.querySelector("[data-remove]") ?? this.form.elements.text).focus();
    this.draw();
  }
});

function say(sentence) {
  document.getElementById("announce-status").textContent = sentence;
}
