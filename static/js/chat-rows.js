// chat-rows.js: <chat-list> is the sidebar's list: a menu at each row, titles changed in place, older chats on demand. Each
// row's link to its options, each form and the link to the history work without it.
import { toasts } from "./toast.js";

const words = JSON.parse(document.getElementById("words").textContent);

customElements.define("chat-list", class extends HTMLElement {
  connectedCallback() {
    this.menu = this.querySelector("[role=menu]");
    this.items = [...this.menu.querySelectorAll("[role=menuitem]")];
    this.addEventListener("click", (event) => this.click(event));
    this.addEventListener("keydown", (event) => this.press(event));
    document.addEventListener("submit", (event) => this.undo(event));
    toasts();
  }

  click(event) {
    const link = event.target.closest("[data-menu]"), item = event.target.closest("[data-do]"), more = event.target.closest("[data-more]");
    if (event.ctrlKey || event.metaKey || event.shiftKey || !(link || item || more)) return;
    event.preventDefault();
    if (link) this.open(link);
    else if (more) this.more(more);
    else this.choose(item.dataset.do);
  }

  press(event) {
    if (this.menu.contains(event.target)) return this.move(event);
    const row = event.target.closest("[data-chat]");
    if (!row || event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "F2") this.rename(row);
    else if (event.key === "Delete") this.act(row, "delete");
    else return;
    event.preventDefault();
  }

  move(event) {
    const shown = this.items.filter((item) => !item.hidden), at = shown.indexOf(document.activeElement);
    const letter = event.key.length === 1 && event.key !== " " ? event.key.toLowerCase() : null;
    const to = { ArrowDown: (at + 1) % shown.length, ArrowUp: (at - 1 + shown.length) % shown.length, Home: 0, End: shown.length - 1 }[event.key]
      ?? (letter ? shown.findIndex((item) => item.textContent.trim().toLowerCase().startsWith(letter)) : undefined);
    if (event.key === "Tab") return this.close();
    if (to === undefined) return;
    shown[to]?.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  open(link) {
    this.row = link.closest("[data-chat]");
    const isPinned = "pinned" in this.row.dataset;
    for (const item of this.items) item.hidden = item.dataset.do === (isPinned ? "pin" : "unpin");
    this.menu.showPopover({ source: link });
    this.items.find((item) => !item.hidden).focus();
  }

  close() {
    this.menu.hidePopover();
    this.row?.querySelector("[data-menu]").focus();
  }

  choose(deed) {
    this.close();
    deed === "rename" ? this.rename(this.row) : this.act(this.row, deed);
  }

  rename(row) {
    const link = row.querySelector(".nav-item"), before = link.querySelector(".truncate").textContent;
    const field = Object.assign(document.createElement("input"), { className: "input", value: before, maxLength: 200, dir: "auto" });
    field.setAttribute("aria-label", words.new_title);
    link.hidden = true;
    link.before(field);
    field.select();
    let isOver = false;
    const end = async (saves) => {
      if (isOver) return;
      isOver = true;
      const title = field.value.trim();
      field.remove();
      link.hidden = false;
      link.focus();
      if (!saves || !title || title === before) return;
      if ((await this.act(row, "rename", { title })) && this.isOpen(row)) document.getElementById("chat-title").textContent = title;
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return; // an IME owns the key
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
      event.stopPropagation();
    });
  }

  isOpen(row) { return location.pathname === new URL(row.querySelector(".nav-item").href).pathname; }

  async act(row, deed, more = {}) {
    const chats = [...this.querySelectorAll("[data-chat]")], beside = chats[chats.indexOf(row) + 1] ?? chats[chats.indexOf(row) - 1];
    const stays = deed !== "delete" && deed !== "archive";
    const open = deed === "delete" && this.isOpen(row) ? { open: "1" } : {};
    const address = row.querySelector("[data-menu]").href.replace(/facts\/$/, "keep/");
    return this.send(address, { do: deed, ...open, ...more }, (stays ? row : beside)?.dataset.chat);
  }

  async undo(event) {
    const form = event.target.closest?.("[data-toast]");
    if (!form) return;
    event.preventDefault();
    await this.send(form.action, Object.fromEntries(new FormData(form)));
  }

  async send(address, fields, focus) { // whether it was done; why not is said where what was done would be
    const rows = String(this.querySelectorAll("[data-chat]:not([data-pinned])").length);
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const answer = await fetch(address, {
      method: "POST", body: new URLSearchParams({ ...fields, rows }), headers: { Accept: "application/json", "X-CSRFToken": token },
    }).catch(() => null);
    const told = await answer?.json().catch(() => null);
    if (!answer?.ok || !told) {
      this.say(Object.assign(document.createElement("p"), { className: "toast", textContent: told?.detail ?? words.not_done }));
      return false;
    }
    if (told.go) return location.assign(told.go);
    this.querySelector("#chats").outerHTML = told.chats;
    for (const link of this.querySelectorAll("#chats .nav-item")) if (link.pathname === location.pathname) link.ariaCurrent = "page";
    this.querySelector(`[data-chat="${focus}"] .nav-item`)?.focus();
    const place = document.getElementById("toasts");
    place.innerHTML = told.toast; // our own server's, escaped there like every page
    toasts(place);
    return true;
  }

  say(toast) {
    toast.dataset.toast = "";
    const place = document.getElementById("toasts");
    place.replaceChildren(toast);
    toasts(place);
  }

  async more(link) {
    link.ariaBusy = "true";
    const answer = await fetch(link.dataset.more).catch(() => null);
    if (!answer?.ok) return link.setAttribute("aria-busy", "false");
    const found = document.createElement("template");
    found.innerHTML = await answer.text();
    const label = found.content.querySelector(".nav-label"), labels = this.querySelectorAll("#chats .nav-label");
    const first = found.content.querySelector("[data-chat] .nav-item");
    if (label && label.textContent === [...labels].at(-1)?.textContent) {
      link.previousElementSibling.append(...label.nextElementSibling.children);
      label.nextElementSibling.remove();
      label.remove();
    }
    link.replaceWith(found.content);
    first?.focus();
  }
});
