// outbox.js: what was written and not sent, in the browser's own storage, per person and chat: the draft, and questions
// that wait in order, each with the key that lets the server take it once. Storage can be forbidden or full: then it is
// kept for as long as the page is.
const memory = new Map();

export class Outbox {
  constructor(owner, chat) {
    this.owner = owner;
    this.chat = chat;
  }

  get draft() { return this.read("draft") ?? ""; }
  set draft(text) { this.write("draft", text); }
  get items() { return JSON.parse(this.read("outbox") ?? "[]"); }
  set items(items) { this.write("outbox", items.length ? JSON.stringify(items) : ""); }

  put(item) { // in its place, if it is there
    const items = this.items, at = items.findIndex(({ key }) => key === item.key);
    this.items = at < 0 ? [...items, item] : items.with(at, item);
  }

  take(key) { this.items = this.items.filter((item) => item.key !== key); }

  name(what) { return `${what}:${this.owner}:${this.chat}`; }

  read(what) {
    try {
      return localStorage.getItem(this.name(what));
    } catch {
      return memory.get(this.name(what));
    }
  }

  write(what, text) {
    try {
      text ? localStorage.setItem(this.name(what), text) : localStorage.removeItem(this.name(what));
    } catch {
      memory.set(this.name(what), text);
    }
  }
}

export function uuid() { // crypto.randomUUID is missing where a site is served without TLS
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
