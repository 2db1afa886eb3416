// copy.js: [data-copy] copies a code block as text, or a message as rich text and as Markdown; with Shift as Markdown alone.
const words = JSON.parse(document.getElementById("words").textContent);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const message = button.closest(".msg");
  const done = button.dataset.copy === "message" ? copyMessage(message, button, event.shiftKey) : copyText(button.closest(".code").querySelector("pre").innerText);
  const isCopied = await done.then(() => true, () => false);
  document.getElementById("announce-status").textContent = isCopied ? words.copied : words.not_copied;
  if (!isCopied) return;
  button.classList.add("is-copied");
  setTimeout(() => button.classList.remove("is-copied"), 2000);
});

async function copyText(text) {
  await navigator.clipboard.writeText(text);
}

async function copyMessage(message, button, isPlain) {
  const prose = message.querySelector(".prose");
  if (!prose) return copyText(message.querySelector(".bubble").innerText);
  const rich = prose.cloneNode(true);
  rich.querySelectorAll(".code > header").forEach((header) => header.remove());
  // A promise, because the clipboard is only ours while the press is fresh. What was written is Markdown; the server has it.
  const written = fetch(button.dataset.markdown)
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
    .then((text) => new Blob([text], { type: "text/plain" }));
  const html = isPlain ? {} : { "text/html": new Blob([rich.innerHTML], { type: "text/html" }) };
  await navigator.clipboard.write([new ClipboardItem({ "text/plain": written, ...html })]);
}
