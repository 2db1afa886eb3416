// brand-look.js: <brand-look data-brand> is drawn in the colour that the sliders beside it say, before anything is saved.
customElements.define("brand-look", class extends HTMLElement {
  connectedCallback() {
    const form = this.closest("form");
    const draw = () => {
      for (const [name, knob] of [["hue", "hue"], ["chroma", "chroma"], ["roundness", "round"]])
        this.style.setProperty(`--brand-${knob}`, form.elements[name].value);
    };
    form.addEventListener("input", draw);
    draw();
  }
});
