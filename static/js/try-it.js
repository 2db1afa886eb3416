// try-it.js: <try-it> sends one request of the API with the page's key and shows the answer; examples are copied, and take
// the key that is typed.
const key = document.getElementById("api-key");
const programs = [...document.querySelectorAll("[data-program]")];

if (key) {
  const written = programs.map((program) => program.textContent.replaceAll(key.value || key.dataset.placeholder, "\0"));
  key.addEventListener("input", () => {
    const shown = key.value.trim() || key.dataset.placeholder;
    programs.forEach((program, number) => (program.textContent = written[number].replaceAll("\0", shown)));
  });
}

for (const button of document.querySelectorAll("[data-copy-example]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.closest(".code").querySelector("pre").textContent);
    const words = button.firstChild.textContent;
    button.firstChild.textContent = button.dataset.done;
    setTimeout(() => (button.firstChild.textContent = words), 2000);
  });
}

customElements.define("try-it", class extends HTMLElement {
  connectedCallback() {
    this.hidden = false;
    this.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(event.target);
    });
  }

  async send(form) {
    const status = this.querySelector("[role=status]");
    const shown = this.querySelector(".code");
    if (!key?.value.trim()) {
      status.textContent = this.dataset.noKey;
      key?.focus();
      return;
    }
    let path = this.dataset.path;
    const query = new URLSearchParams();
    for (const field of form.querySelectorAll("[data-where]")) {
      if (field.dataset.where === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
      else if (field.value) query.set(field.name, field.value);
    }
    const headers = { Authorization: `Bearer ${key.value.trim()}` };
    const body = form.elements.body?.value;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    status.textContent = this.dataset.waiting;
    try {
      const answer = await fetch(`${path}${query.size ? `?${query}` : ""}`, { method: this.dataset.method, headers, body, credentials: "omit" });
      const text = await answer.text();
      shown.querySelector("header span").textContent = `${answer.status} ${answer.statusText}`;
      shown.querySelector("pre").textContent = pretty(text);
      shown.hidden = false;
      status.textContent = "";
    } catch {
      status.textContent = this.dataset.away;
    }
  }
});

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
