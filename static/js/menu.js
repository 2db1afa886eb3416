// menu.js: <pick-one> is a button with a listbox in a popover; what is chosen goes into its hidden field.
customElements.define("pick-one", class extends HTMLElement {
  connectedCallback() {
    this.opener = this.querySelector("[popovertarget]");
    this.list = this.querySelector("[role=listbox]");
    this.options = [...this.list.querySelectorAll("[role=option]")];
    this.options.forEach((option) => (option.tabIndex = -1));
    this.opener.setAttribute("aria-expanded", "false");
    this.typed = "";

    this.list.addEventListener("toggle", (event) => {
      const isOpen = event.newState === "open";
      this.opener.setAttribute("aria-expanded", String(isOpen));
      if (isOpen) (this.chosen ?? this.options[0])?.focus();
    });
    this.list.addEventListener("click", (event) => this.choose(event.target.closest("[role=option]")));
    this.list.addEventListener("keydown", (event) => this.press(event));
  }

  get chosen() { return this.options.find((option) => option.ariaSelected === "true"); }

  choose(option) {
    if (!option || option.ariaDisabled === "true") return;
    this.options.forEach((each) => (each.ariaSelected = String(each === option)));
    const field = this.querySelector("input");
    field.value = option.dataset.value;
    this.querySelector("[data-chosen]").textContent = option.querySelector("[data-name]").textContent;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    this.close();
  }

  close() {
    this.list.hidePopover();
    this.opener.focus();
  }

  press(event) {
    const at = this.options.indexOf(document.activeElement), last = this.options.length - 1;
    const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (to !== undefined) this.options[to].focus();
    else if (event.key === "Tab" || event.key === "Escape") this.close();
    else if (event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey) this.seek(event.key, at);
    else return;
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  }

  seek(letter, at) {
    clearTimeout(this.forget);
    this.forget = setTimeout(() => (this.typed = ""), 600);
    this.typed += letter.toLowerCase();
    const from = this.typed.length === 1 ? at + 1 : at; // the same letter again goes on to the next
    const ordered = [...this.options.slice(from), ...this.options.slice(0, from)];
    ordered.find((option) => option.innerText.trim().toLowerCase().startsWith(this.typed))?.focus();
  }
});
