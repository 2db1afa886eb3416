// jump.js: the transcript stays at its end while it grows, unless the reader has scrolled up: then it stays where it is, and
// "Latest" shows the way back. The page comes with a reversed scroller, which begins at its end without a script; from
// here on it is turned forward, because a browser walks through all of a reversed one whenever a line is added.
const AT_END_PX = 8, SCROLLED_UP_PX = 240;
const transcript = document.getElementById("transcript"), button = document.getElementById("to-end");
const left = -transcript.scrollTop;
let isAtEnd = left < AT_END_PX && !location.hash; // the browser is about to go to what the address names

export function toEnd() {
  isAtEnd = true;
  transcript.scrollTop = transcript.scrollHeight;
}

function below() {
  return transcript.scrollHeight - transcript.clientHeight - transcript.scrollTop;
}

function draw() {
  button.hidden = below() < SCROLLED_UP_PX;
}

transcript.classList.add("is-forward");
transcript.scrollTop = transcript.scrollHeight - transcript.clientHeight - left;
let last = transcript.scrollTop;
transcript.addEventListener("scroll", () => {
  if (below() < AT_END_PX) isAtEnd = true;
  else if (transcript.scrollTop < last) isAtEnd = false; // that it has grown below is no wish of the reader's
  last = transcript.scrollTop;
  draw();
}, { passive: true });
const grown = new ResizeObserver(() => {
  isAtEnd ||= below() < AT_END_PX;
  if (isAtEnd) toEnd();
  draw();
});
for (const box of [transcript, transcript.firstElementChild]) grown.observe(box);
button.addEventListener("click", () => {
  toEnd();
  transcript.focus({ preventScroll: true });
});
