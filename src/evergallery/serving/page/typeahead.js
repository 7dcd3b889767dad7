// Names chosen from many: a field that proposes as one types, and what was chosen beside it.

import { count, h, icon } from "./dom.js";

const MOST = 8;

/**
 * A combobox for several names.
 *
 * @param {string} label
 * @param {() => Object<string, number>} names with how many items each has.
 * @param {(chosen: string[]) => void} onchange
 */
export class TypeAhead {
  constructor(label, names, onchange) {
    this.names = names;
    this.onchange = onchange;
    this.chosen = [];
    this.at = -1;
    const id = (TypeAhead.made = (TypeAhead.made ?? 0) + 1);
    this.list = h("ul", { class: "proposals", role: "listbox", id: `proposals-${id}`, "aria-label": label, hidden: true });
    this.input = h("input", {
      id: `names-${id}`, type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder: "Type a name",
      "aria-expanded": "false", "aria-controls": this.list.id, "aria-autocomplete": "list",
      oninput: () => this.propose(), onfocus: () => this.propose(), onkeydown: (event) => this.pressed(event), onblur: () => { this.input.value = ""; this.close(); },
    });
    this.chips = h("ul", { class: "chips", "aria-label": `${label} chosen` });
    this.element = h("div", { class: "field" }, h("label", { for: this.input.id }, label), this.input, this.list, this.chips);
    // Scrolling of the page, and of what is around the field; not of the list itself.
    window.addEventListener("scroll", ({ target }) => target !== this.list && !this.list.hidden && this.place(), { capture: true, passive: true });
  }

  set(chosen) {
    this.chosen = [...chosen];
    this.chips.replaceChildren(
      ...this.chosen.map((name) =>
        h("li", {}, h("button", { type: "button", class: "chip", "aria-label": `Remove ${name}`, onclick: () => this.remove(name) }, name, icon("close"))),
      ),
    );
    this.chips.hidden = this.chosen.length === 0;
  }

  propose() {
    const typed = this.input.value.trim().toLowerCase();
    const names = Object.entries(this.names()).filter(([name]) => name.toLowerCase().includes(typed) && !this.chosen.includes(name));
    // What begins with the letters comes first, then what many items have.
    names.sort(([one, many], [other, few]) => other.toLowerCase().startsWith(typed) - one.toLowerCase().startsWith(typed) || few - many || one.localeCompare(other));
    this.proposed = names.slice(0, MOST).map(([name]) => name);
    this.at = typed && this.proposed.length ? 0 : -1;
    this.list.replaceChildren(
      ...names.slice(0, MOST).map(([name, items], index) =>
        h("li", { role: "option", id: `${this.list.id}-${index}`, "aria-selected": "false",
          // The field must keep the focus, or it would close before the press arrives.
          onmousedown: (event) => event.preventDefault(), onclick: () => this.add(name) },
          h("span", {}, name), h("span", { class: "faint" }, count(items))),
      ),
      ...(names.length ? [] : [h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "faint" }, "No such label")]),
    );
    this.list.hidden = false;
    this.place();
    this.input.setAttribute("aria-expanded", "true");
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
      if (!open) return this.propose();
      const many = this.proposed.length;
      this.at = event.key === "ArrowDown" ? Math.min(this.at, many - 1) + 1 : Math.max(this.at, 0) - 1;
      this.at = many ? (this.at + many) % many : -1;
      this.mark();
    } else if (event.key === "Enter" && open && this.at >= 0) {
      event.preventDefault();
      this.add(this.proposed[this.at]);
    } else if (event.key === "Escape" && open) {
      event.stopPropagation();
      event.preventDefault();
      this.close();
    } else if (event.key === "Backspace" && !this.input.value && this.chosen.length) {
      this.remove(this.chosen.at(-1));
    }
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  add(name) {
    this.input.value = "";
    this.close();
    this.set([...this.chosen, name]);
    this.onchange(this.chosen);
  }

  remove(name) {
    this.set(this.chosen.filter((one) => one !== name));
    this.input.focus();
    this.close();
    this.onchange(this.chosen);
  }
}
