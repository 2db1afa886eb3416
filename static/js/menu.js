// menu.js: <pick-one> is a button with a listbox in a popover; what is chosen goes into its hidden field.
customElements.define("pick-one", class extends HTMLElement {
  connectedCallback() {
    this.opener = this.querySelector("[popovertarget]");
    this.menu = this.querySelector("[popover]");
    this.search = this.querySelector("[type=search]"); // where there are many
    this.options = [...this.querySelectorAll("[role=option]")];
    this.options.forEach((option) => (option.tabIndex = -1));
    this.opener.setAttribute("aria-expanded", "false");
    this.typed = "";

    this.menu.addEventListener("toggle", (event) => {
      const isOpen = event.newState === "open";
      this.opener.setAttribute("aria-expanded", String(isOpen));
      if (!isOpen) return;
      if (this.search) this.search.value = "";
      this.filter();
      (this.search ?? this.chosen ?? this.options[0])?.focus();
    });
    this.menu.addEventListener("click", (event) => this.choose(event.target.closest("[role=option]")));
    this.menu.addEventListener("keydown", (event) => this.press(event));
    this.search?.addEventListener("input", (event) => this.filter(event.stopPropagation()));
  }

  get chosen() { return this.options.find((option) => option.ariaSelected === "true"); }
  get shown() { return this.options.filter((option) => !option.hidden); }

  filter() {
    const wanted = this.search?.value.trim().toLocaleLowerCase() ?? "";
    for (const option of this.options) option.hidden = !option.innerText.toLocaleLowerCase().includes(wanted) && Boolean(wanted);
  }

  choose(option) {
    if (!option || option.ariaDisabled === "true") return;
    this.options.forEach((each) => (each.ariaSelected = String(each === option)));
    const field = this.querySelector("input[type=hidden]");
    field.value = option.dataset.value;
    this.querySelector("[data-chosen]").textContent = option.querySelector("[data-name]").textContent;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    if (this.menu.matches(":popover-open")) this.close();
  }

  close() {
    this.menu.hidePopover();
    this.opener.focus();
  }

  press(event) {
    const { shown } = this, at = shown.indexOf(document.activeElement), last = shown.length - 1;
    const isSearch = event.target === this.search;
    const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last, PageDown: last, PageUp: 0 }[event.key];
    if (event.isComposing) return;
    if (isSearch && ["Home", "End"].includes(event.key)) return;
    if (!isSearch && this.search && event.key === "ArrowUp" && at === 0) this.search.focus();
    else if (to !== undefined) shown[to]?.focus();
    else if (isSearch && event.key === "Enter") this.choose(shown[0]);
    else if (event.key === "Tab" || event.key === "Escape") this.close();
    else if (!isSearch && event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey) this.seek(event.key, at);
    else return event.stopPropagation();
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  }

  seek(letter, at) {
    clearTimeout(this.forget);
    this.forget = setTimeout(() => (this.typed = ""), 600);
    this.typed += letter.toLowerCase();
    const { shown } = this, from = this.typed.length === 1 ? at + 1 : at; // the same letter again goes on to the next
    const ordered = [...shown.slice(from), ...shown.slice(0, from)];
    ordered.find((option) => option.innerText.trim().toLowerCase().startsWith(this.typed))?.focus();
  }
});
