// copy.js: [data-copy] copies a code block as text, or a message as rich text and as plain text.
const words = JSON.parse(document.getElementById("words").textContent);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const message = button.closest(".msg");
  const done = button.dataset.copy === "message" ? copyMessage(message) : copyText(button.closest(".code").querySelector("pre").innerText);
  const isCopied = await done.then(() => true, () => false);
  document.getElementById("announce-status").textContent = isCopied ? words.copied : words.not_copied;
  if (!isCopied) return;
  button.classList.add("is-copied");
  setTimeout(() => button.classList.remove("is-copied"), 2000);
});

async function copyText(text) {
  await navigator.clipboard.writeText(text);
}

async function copyMessage(message) {
  const prose = message.querySelector(".prose");
  if (!prose) return copyText(message.querySelector(".bubble").innerText);
  const rich = prose.cloneNode(true);
  rich.querySelectorAll(".code > header").forEach((header) => header.remove());
  rich.hidden = true;
  const plain = prose.cloneNode(true);
  plain.querySelectorAll(".code > header").forEach((header) => header.remove());
  plain.className = "sr-only copy-source";
  message.append(plain); // innerText needs a drawn element to know where lines end
  const text = plain.innerText.trim();
  plain.remove();
  const item = { "text/plain": new Blob([text], { type: "text/plain" }), "text/html": new Blob([rich.innerHTML], { type: "text/html" }) };
  await navigator.clipboard.write([new ClipboardItem(item)]);
}
