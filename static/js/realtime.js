// realtime.js: hear of new messages and notifications as they come. One file without dependencies, for browsers and for Node
// 18 and later. One stream serves all subscriptions of a client; it comes back by itself, and misses nothing on the way.
//
//   import { realtime } from "/static/js/realtime.js";                      // a page of this site: the member who is signed in
//   const realtime = connect({ url: "https://chat.example.com", key });     // a program
//   const subscription = realtime.subscribeToMessages(conversationId, (payload) => console.log(payload.new));
//   realtime.unsubscribe(subscription);

const PATH = "/api/v1/realtime", REFUSED = [400, 401, 403, 404], QUIET_MS = 45_000, MOST_WAIT_MS = 60_000;

export class Realtime {
  // onError hears of refusals, after which nothing more comes; `onReload` of what could not be told any more: read anew.
  constructor({ url = "", key = "", onError = console.error, onReload = () => {} } = {}) {
    Object.assign(this, { url, key, onError, onReload, subscriptions: new Set(), lastId: "", retryMs: 2000, tries: 0, leaving: null });
  }

  subscribeToMessages(conversationId, act) { return this.subscribe(conversationId ? `messages:${conversationId.toLowerCase()}` : "messages", act); }
  subscribeToConversations(act) { return this.subscribe("conversations", act); }
  subscribeToNotifications(...given) { return this.subscribe("notifications", given.at(-1)); } // S3 names the user before: it is who asks

  subscribe(topic, act) {
    const subscription = { topic, act };
    this.subscriptions.add(subscription);
    this.turn();
    return subscription;
  }

  unsubscribe(subscription) {
    if (this.subscriptions.delete(subscription)) this.turn();
  }

  close() {
    this.subscriptions.clear();
    this.leaving?.abort();
  }

  get topics() { return [...new Set([...this.subscriptions].map(({ topic }) => topic))].sort().join(","); }

  turn() { // when all that is subscribed to in one go is known
    queueMicrotask(() => {
      if (this.topics === this.listensTo) return;
      this.leaving?.abort();
      this.leaving = new AbortController();
      this.listensTo = this.topics;
      if (this.topics) this.listen(this.topics, this.leaving.signal);
    });
  }

  async listen(topics, signal) {
    while (!signal.aborted) {
      const refusal = await this.read(topics, signal).catch(() => null);
      if (signal.aborted) return;
      if (refusal) {
        this.listensTo = "";
        this.onError(refusal);
        return;
      }
      const ms = this.tries ? Math.min(this.retryMs * 2 ** this.tries, MOST_WAIT_MS) * (0.5 + Math.random() / 2) : this.retryMs;
      this.tries += 1;
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }

  async read(topics, signal) { // to its end; gives the refusal, if it is one
    const headers = { Accept: "text/event-stream" };
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    if (this.lastId) headers["Last-Event-ID"] = this.lastId;
    const stalled = new AbortController(), stop = () => stalled.abort();
    signal.addEventListener("abort", stop);
    let timer;
    try {
      const response = await fetch(`${this.url}${PATH}?topics=${topics}`, { headers, signal: stalled.signal, cache: "no-store" });
      if (!response.ok) return REFUSED.includes(response.status) ? await response.json() : null;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "";;) {
        timer = setTimeout(stop, QUIET_MS);
        const { value, done } = await reader.read();
        clearTimeout(timer);
        if (done) return null;
        const frames = (rest + value).split("\n\n");
        rest = frames.pop();
        frames.forEach((frame) => this.take(frame));
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }

  take(frame) {
    const { id, event = "change", data, retry } = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    if (retry) this.retryMs = Number(retry);
    if (id) this.lastId = id;
    const told = data && JSON.parse(data);
    if (event === "change" && told) this.tell(told);
    if (event === "ready") this.tries = 0;
    if (event === "reload") this.onReload(told.topics);
    if (event === "gone") this.lose(told);
  }

  tell(payload) {
    for (const { topic, act } of [...this.subscriptions]) {
      try {
        if (payload.topics.includes(topic)) act(payload);
      } catch (error) {
        this.onError(error); // it ends no stream
      }
    }
  }

  lose({ topic, detail }) { // without a topic all of it: then the server hangs up, and says why when it is asked again
    if (!topic) return;
    for (const subscription of [...this.subscriptions]) if (subscription.topic === topic) this.subscriptions.delete(subscription);
    this.listensTo = this.topics;
    if (!this.topics) this.leaving?.abort();
    this.onError({ code: "gone", topic, detail });
  }
}

export const connect = (given) => new Realtime(given);
export const realtime = connect();
