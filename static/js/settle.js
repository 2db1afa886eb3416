// settle.js: an answer that has ended takes its last form where it stands. Blocks that are as they were stay the nodes they
// are, so the browser draws only what differs: a list that went on across a blank line, and what can be done with it now.
// A long one is taken in slices, between which frames are drawn and keys are heard.
const SLICE_MS = 8, HIDDEN_MS = 200;
const TOLD_MS = 1; // a paragraph is added in no time, and laid out in some
const AHEAD = 40; // blocks, among which one that stands is looked for

// `last` is the last of the blocks that are left out of the final form, because they are known to stand.
export async function settle(message, final, last) {
  const body = message.querySelector(".prose"), prose = final?.querySelector(":scope > .prose");
  if (!prose || !body?.firstChild) return false;
  await merge(body, prose, last);
  const parts = [...final.childNodes], at = parts.indexOf(prose);
  for (const old of [...message.childNodes]) if (old !== body) old.remove();
  body.before(...parts.slice(0, at));
  body.after(...parts.slice(at + 1));
  take(body, prose);
  take(message, final);
  return true;
}

// Say an answer in parts, a paragraph for each block: in one, the browser would lay all of it out at once.
export async function tell(region, blocks) {
  const said = [];
  await aFrame(); // the first block that is asked for its text has all of the page laid out
  await inSlices(blocks, (block) => said.push(block.innerText));
  region.replaceChildren();
  await inSlices(said, (text) => region.append(Object.assign(document.createElement("p"), { textContent: text })), TOLD_MS);
}

async function merge(body, prose, last) {
  let at = last ? last.nextElementSibling : body.firstElementChild;
  await inSlices([...prose.children], (block) => {
    const same = ahead(at, block);
    if (!same) return body.insertBefore(withSpace(block), at);
    while (at !== same) at = drop(at);
    at = at.nextElementSibling;
  });
  while (at) at = drop(at);
}

function ahead(from, block) {
  for (let one = from, n = 0; one && n < AHEAD; one = one.nextElementSibling, n++) if (one.isEqualNode(block)) return one;
  return null;
}

function drop(block) {
  const next = block.nextElementSibling;
  withSpace(block);
  return next;
}

function withSpace(block) { // a block, and the line end behind it
  const both = document.createDocumentFragment();
  if (block.nextSibling?.nodeType === Node.TEXT_NODE) both.append(block.nextSibling);
  both.prepend(block);
  return both;
}

function take(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

// In order, also what is added meanwhile.
export async function inSlices(items, act, ms = SLICE_MS) {
  let began = performance.now();
  for (const item of items) {
    act(item);
    if (performance.now() - began < ms) continue;
    await aFrame();
    began = performance.now();
  }
}

function aFrame() {
  return new Promise((go) => {
    requestAnimationFrame(() => setTimeout(go));
    setTimeout(go, HIDDEN_MS); // a tab that nobody sees draws no frame
  });
}
