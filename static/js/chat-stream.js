// chat-stream.js: <chat-stream src stop model> shows an answer as it arrives, then gives it the last form the server sends.
// The server sends text of the open block, finished blocks as sanitised HTML, and at the end the whole message.
import { inSlices, settle, tell } from "./settle.js";

const words = JSON.parse(document.getElementById("words").textContent);
const PROSE = '<div class="prose" dir="auto">'; // of _message.html
const PAINT_MS = 50, STILL_WRITING_MS = 7000, LOST_MS = 1500, MAX_RETRY_MS = 15000, STUCK_MS = 6000;

customElements.define("chat-stream", class extends HTMLElement {
  connectedCallback() {
    this.message = this.closest(".msg");
    this.body = this.message.querySelector(".prose");
    this.querySelector("[data-plain]")?.remove();
    this.open = Object.assign(document.createElement("p"), { className: "open-block", dir: "auto" });
    this.buffer = "";
    this.blocks = [];
    this.tries = 0;
    this.timers = new Set();
    if (!this.body.firstChild) this.wait();
    this.announceEvery = setInterval(() => this.waiting || say(words.still_writing), STILL_WRITING_MS);
    this.comeBack = () => this.source.readyState === EventSource.CLOSED && this.connect();
    addEventListener("online", this.comeBack);
    this.connect();
    say(words.answering);
    document.dispatchEvent(new CustomEvent("turn:begin"));
  }

  disconnectedCallback() {
    this.leave();
  }

  leave() { // nothing more is asked, and nothing said by the clock
    this.source.close();
    clearInterval(this.announceEvery);
    this.timers.forEach(clearTimeout);
    removeEventListener("online", this.comeBack);
  }

  connect() {
    this.source?.close();
    const source = this.source = new EventSource(this.getAttribute("src"));
    let isFirst = true; // a new source tells the whole answer again; one that reconnects by itself goes on
    const inbox = []; // who comes back to a long answer gets much at once
    const on = (name, act) => source.addEventListener(name, (event) => {
      inbox.push(() => {
        if (source !== this.source || !this.isConnected) return;
        if (isFirst && name !== "done") this.restart();
        isFirst = false;
        act(JSON.parse(event.data));
      });
      if (inbox.length === 1) inSlices(inbox, (read) => read()).then(() => (inbox.length = 0));
    });
    on("delta", (text) => this.write(text));
    on("block", (html) => this.closeBlock(html));
    on("done", (html) => this.finish(html));
    on("gone", (sentence) => this.giveUp(sentence));
    source.onopen = () => this.isBack();
    source.onerror = () => this.isLost();
  }

  restart() {
    this.waiting?.remove();
    this.waiting = null;
    this.buffer = this.open.textContent = "";
    this.blocks = [];
    this.body.replaceChildren(this.open);
  }

  write(text) {
    this.buffer += text;
    if (!this.painting) this.paint();
  }

  paint() {
    this.open.append(this.buffer); // text, never HTML
    this.buffer = "";
    this.painting = this.later(PAINT_MS, () => {
      this.painting = null;
      if (this.buffer) this.paint();
    });
  }

  closeBlock(html) {
    this.buffer = this.open.textContent = "";
    this.open.insertAdjacentHTML("beforebegin", html); // sanitised by the server
    this.blocks.push([html, this.open.previousElementSibling]);
  }

  // The last form without the blocks at its beginning that are here as they are in it, which need not be read again, and
  // the last element of these.
  unread(html) {
    const begins = html.indexOf(PROSE) + PROSE.length;
    let ends = begins, last = null;
    for (const [text, element] of begins < PROSE.length ? [] : this.blocks) {
      if (!html.startsWith(text, ends)) break;
      [ends, last] = [ends + text.length, element];
    }
    return [html.slice(0, begins) + html.slice(ends), last];
  }

  async finish(html) {
    this.leave();
    const { message } = this, hadFocus = message.contains(document.activeElement);
    const [innerHTML, last] = this.unread(html);
    const { content } = Object.assign(document.createElement("template"), { innerHTML });
    const isSettled = await settle(message, content.getElementById(message.id), last);
    await htmx.swap({ content, target: message, swap: isSettled ? "none" : "outerHTML" });
    const final = document.getElementById(message.id);
    if (hadFocus && !final?.contains(document.activeElement)) final?.focus({ preventScroll: true });
    const { status } = final?.dataset ?? {};
    say(status === "done" ? words.done : status === "stopped" ? words.stopped : words.failed);
    document.querySelector("#chats [aria-current] .dot--live")?.remove();
    document.dispatchEvent(new CustomEvent("turn:end"));
    announce([...(final?.querySelector(".prose")?.children ?? [])]);
  }

  giveUp(sentence) {
    this.source.close();
    this.body.classList.remove("is-streaming");
    this.message.removeAttribute("aria-busy");
    this.replaceWith(noteOf(sentence));
    say(sentence);
    document.dispatchEvent(new CustomEvent("turn:end"));
  }

  async stop() { // what ends the answer is the "done" that follows
    const response = await fetch(this.getAttribute("stop"), {
      method: "POST",
      headers: { Accept: "application/json", "X-CSRFToken": document.querySelector("#composer-form [name=csrfmiddlewaretoken]").value },
    }).catch(() => null);
    if (!this.isConnected) return;
    if (response?.ok) {
      this.later(STUCK_MS, () => this.connect());
      return;
    }
    this.showNote(words.not_stopped);
    document.dispatchEvent(new CustomEvent("turn:stuck"));
  }

  isLost() {
    if (this.source.readyState === EventSource.CLOSED) { // the server refused; the browser will not ask again
      this.later(Math.min(1000 * 2 ** this.tries++, MAX_RETRY_MS), () => this.askWhy());
    }
    this.lost ??= this.later(LOST_MS, () => this.showNote(words.connection_lost));
  }

  async askWhy() { // an EventSource does not say what the server refused with
    const leaving = new AbortController();
    const headers = { Accept: "application/json" };
    const answer = await fetch(this.getAttribute("src"), { headers, signal: leaving.signal }).catch(() => null);
    const gone = answer?.status === 404 ? (await answer.json().catch(() => ({}))).detail : null;
    leaving.abort();
    if (!this.isConnected) return;
    if (gone) this.giveUp(gone);
    else this.comeBack();
  }

  isBack() {
    this.tries = 0;
    clearTimeout(this.lost);
    if (this.note && this.lost) say(words.back);
    this.lost = null;
    this.note?.remove();
    this.note = null;
  }

  showNote(sentence) {
    this.note?.remove();
    const retry = Object.assign(document.createElement("button"), {
      type: "button", className: "btn btn--s", textContent: words.try_now, onclick: () => this.connect(),
    });
    this.note = noteOf(sentence, retry);
    this.append(this.note);
  }

  wait() {
    this.waiting = Object.assign(document.createElement("p"), { className: "waiting" });
    const show = (sentence) => {
      if (!this.waiting) return;
      this.waiting.textContent = sentence;
      this.append(this.waiting);
      if (sentence) say(sentence);
    };
    this.later(300, () => show(""));
    this.later(8000, () => show(words.still_thinking));
    this.later(30000, () => this.isSlow(show));
  }

  isSlow(show) {
    const model = this.getAttribute("model"), other = document.querySelector("chat-composer")?.another?.(model);
    show(words.slow.replace("%s", model || words.the_model));
    if (!this.waiting || !other) return;
    const textContent = words.use_other.replace("%s", other.name);
    this.waiting.append(Object.assign(document.createElement("button"), { type: "button", className: "btn btn--s", textContent, onclick: other.use }));
  }

  later(ms, act) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, ms);
    this.timers.add(timer);
    return timer;
  }
});

function say(sentence) {
  document.getElementById("announce-status").textContent = sentence;
}

function announce(blocks) { // as much of the answer as its reader chose
  const region = document.getElementById("announce-answer"), how = document.documentElement.dataset.announce;
  if (how !== "first") return tell(region, how === "end" ? [] : blocks);
  let text = "", sentence;
  for (const block of blocks) {
    text += `${block.innerText}\n`;
    if ((sentence = text.match(/^[^]*?[.!?…。！？](?=\s|$)/))) break;
  }
  region.textContent = sentence?.[0] ?? text.split("\n")[0];
}

function noteOf(sentence, ...actions) {
  const note = document.createElement("div");
  note.className = "note note--warn";
  note.setAttribute("role", "status");
  note.append(Object.assign(document.createElement("p"), { textContent: sentence }), ...actions);
  return note;
}
