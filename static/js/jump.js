// jump.js: <jump-latest> shows the way back to the end when the reader has scrolled up; it never moves the view itself.
const SCROLLED_UP_PX = 240;

customElements.define("jump-latest", class extends HTMLElement {
  connectedCallback() {
    const transcript = document.getElementById("transcript"), button = this.querySelector("button");
    transcript.addEventListener("scroll", () => (button.hidden = transcript.scrollTop > -SCROLLED_UP_PX), { passive: true });
    button.addEventListener("click", () => {
      transcript.scrollTo({ top: 0, behavior: "smooth" }); // the scroller is reversed: its end is 0
      transcript.focus({ preventScroll: true });
    });
  }
});
