// bell.js: <live-bell> lets the bell ring while a page is open: count, title of the page, and the newest notice for ten seconds.
// One tab of a browser listens and tells the others; a tab that is hidden listens to nothing. What it hears of chats it
// passes on to the pages that list them (elsewhere.js).
const SETTLED_MS = 1500, SHOWN_MS = 10_000, MOST_WAIT_MS = 60_000;
const chats = "BroadcastChannel" in window ? new BroadcastChannel("chats") : null;

customElements.define("live-bell", class extends HTMLElement {
  connectedCallback() {
    this.count = Number(this.dataset.count);
    this.tries = 0;
    this.ahead = "";
    this.newest = null;
    const name = `bell:${this.dataset.owner}`;
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;
    this.channel?.addEventListener("message", ({ data }) => this.show(data));
    this.toasts = document.getElementById("toasts") ?? document.body.appendChild(Object.assign(document.createElement("div"), { id: "toasts", role: "status" }));
    this.turn = () => {
      this.leaving?.abort();
      if (document.hidden) {
        this.hasRested = true;
        return;
      }
      const { signal } = (this.leaving = new AbortController());
      setTimeout(() => signal.aborted || this.wait(name, signal), SETTLED_MS); // whoever only passes by asks nothing
    };
    document.addEventListener("visibilitychange", this.turn);
    new MutationObserver(() => this.entitle()).observe(document.querySelector("title"), { childList: true });
    this.turn();
    this.entitle();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.turn);
    this.leaving?.abort();
    this.channel?.close();
  }

  wait(name, signal) { // until no other tab listens; a site without TLS has no locks, and there each visible tab listens
    const listen = () => new Promise((leave) => {
      signal.addEventListener("abort", leave);
      this.listen(signal);
    });
    if (navigator.locks) navigator.locks.request(name, { signal }, listen).catch(() => {}); // hidden before its turn came
    else listen();
    if (this.hasRested) this.look();
  }

  listen(signal) {
    if (signal.aborted) return;
    const source = new EventSource(this.dataset.stream), close = () => source.close();
    signal.addEventListener("abort", close);
    source.addEventListener("ready", () => {
      this.tries = 0;
      this.look();
    });
    source.addEventListener("reload", () => {
      this.look();
      chats?.postMessage("reload");
    });
    source.onmessage = ({ data }) => {
      const told = JSON.parse(data);
      if (told.table === "notifications") this.look();
      else chats?.postMessage(told);
    };
    source.onerror = () => { // it comes back by itself, unless the server refused
      if (source.readyState !== EventSource.CLOSED || signal.aborted) return;
      signal.removeEventListener("abort", close);
      const ms = Math.min(1000 * 2 ** this.tries++, MOST_WAIT_MS) * (0.5 + Math.random());
      setTimeout(() => this.isOver || this.listen(signal), ms);
    };
  }

  async look() { // one at a time; what happens meanwhile is looked at once more
    this.again = this.looking;
    if (this.looking) return;
    this.looking = true;
    const answer = await fetch(this.dataset.src, { headers: { Accept: "application/json" } }).catch(() => null);
    const told = answer?.ok && !answer.redirected ? await answer.json().catch(() => null) : null;
    this.isOver = answer?.status === 401;
    this.looking = false;
    if (told) {
      this.show(told);
      this.channel?.postMessage(told);
    }
    if (this.again && !this.isOver) this.look();
  }

  show({ count, shown, label, newest }) {
    const isMore = count > this.count;
    this.count = count;
    for (const bell of document.querySelectorAll("[data-bell]")) {
      bell.querySelector("[data-shown]").textContent = shown;
      bell.querySelector(".chip").hidden = !count;
      if (bell.hasAttribute("aria-label")) bell.setAttribute("aria-label", label);
    }
    this.entitle();
    const isGroup = newest && newest.id === this.newest?.id && newest.title !== this.newest.title; // it counts one more
    if (newest && (isGroup || (isMore && newest.id !== this.newest?.id))) this.tell(newest.title);
    this.newest = newest;
    document.dispatchEvent(new CustomEvent("bell:look", { detail: { count, newest } }));
  }

  tell(title) {
    if (this.toasts.childElementCount) return; // what can be undone goes before
    const toast = Object.assign(document.createElement("div"), { className: "toast" });
    toast.append(Object.assign(document.createElement("p"), { textContent: this.dataset.news.replace("%s", () => title), dir: "auto" }));
    if (location.pathname !== this.dataset.list) toast.append(Object.assign(document.createElement("a"), { className: "btn btn--s", href: this.dataset.list, textContent: this.dataset.open }));
    this.toasts.append(toast);
    setTimeout(() => toast.remove(), SHOWN_MS);
  }

  entitle() { // whoever changes the page's title changes it without the number
    const bare = document.title.startsWith(this.ahead) ? document.title.slice(this.ahead.length) : document.title;
    this.ahead = this.count ? `(${this.count > 99 ? "99+" : this.count}) ` : "";
    if (document.title !== this.ahead + bare) document.title = this.ahead + bare;
  }
});
