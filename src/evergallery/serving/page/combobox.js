// A field that proposes as one types: a list below it, which the keyboard and the mouse choose from.

import { h } from "./dom.js";

let made = 0;

/**
 * Proposals below an input; `list` is to be put beside it.
 *
 * @param {HTMLInputElement} input
 * @param {string} label of the list.
 * @param {(typed: string) => Proposal[] | Promise<Proposal[]>} propose what may be meant; a Proposal has `text`, `hint` and `choose`.
 * @param {{eager?: boolean, empty?: string}} options whether the first one is taken by Enter, and what is said where there is none.
 */
export class Combobox {
  constructor(input, label, propose, { eager = false, empty = null } = {}) {
    Object.assign(this, { input, propose, eager, empty, at: -1, proposed: [], turn: 0 });
    this.list = h("ul", { class: "proposals", role: "listbox", id: `proposals-${++made}`, "aria-label": label, hidden: true });
    for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": this.list.id, "aria-autocomplete": "list" })) input.setAttribute(name, value);
    input.addEventListener("input", () => this.open());
    input.addEventListener("keydown", (event) => this.pressed(event));
    input.addEventListener("blur", () => this.close());
    // Scrolling of the page, and of what is around the field; not of the list itself.
    window.addEventListener("scroll", ({ target }) => target !== this.list && !this.list.hidden && this.place(), { capture: true, passive: true });
  }

  async open() {
    const typed = this.input.value.trim();
    const turn = ++this.turn;
    const proposed = await this.propose(typed);
    if (turn !== this.turn) return;
    this.proposed = proposed;
    this.at = this.eager && typed && proposed.length ? 0 : -1;
    this.list.replaceChildren(
      ...proposed.map((one, index) =>
        h("li", { role: "option", id: `${this.list.id}-${index}`, "aria-selected": "false",
          // The field must keep the focus, or it would close before the press arrives.
          onmousedown: (event) => event.preventDefault(), onclick: () => this.choose(one) },
        h("span", {}, one.text), one.hint !== undefined && h("span", { class: "faint" }, one.hint))),
      ...(proposed.length || !this.empty ? [] : [h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "faint" }, this.empty)]),
    );
    this.list.hidden = !this.list.childElementCount;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    if (!this.list.hidden) this.place();
    this.mark();
  }

  /** Below the field, in front of whatever scrolls around it, which would cut it off. */
  place() {
    const { left, bottom, width } = this.input.getBoundingClientRect();
    for (const [name, length] of Object.entries({ left, top: bottom + 4, width, "max-height": Math.max(96, window.innerHeight - bottom - 16) }))
      this.list.style.setProperty(name, `${length}px`);
  }

  mark() {
    [...this.list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === this.at)));
    if (this.at < 0) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", `${this.list.id}-${this.at}`);
  }

  pressed(event) {
    const open = !this.list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return this.open();
      const many = this.proposed.length;
      this.at = event.key === "ArrowDown" ? Math.min(this.at, many - 1) + 1 : Math.max(this.at, 0) - 1;
      this.at = many ? (this.at + many) % many : -1;
      this.mark();
    } else if (event.key === "Enter" && open && this.at >= 0) {
      event.preventDefault();
      this.choose(this.proposed[this.at]);
    } else if (event.key === "Escape" && open) {
      event.stopPropagation();
      event.preventDefault();
      this.close();
    }
    return undefined;
  }

  choose(one) {
    this.close();
    one.choose();
  }

  close() {
    // What is still asked for comes too late.
    this.turn += 1;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
