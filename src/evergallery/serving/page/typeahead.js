// Names chosen from many: a field that proposes as one types, and what was chosen beside it.

import { Combobox } from "./combobox.js";
import { h, icon } from "./dom.js";
import { count } from "./figures.js";
import { words } from "./words.js";

const MOST = 8;
let made = 0;

/**
 * A combobox for several names.
 *
 * @param {string} label
 * @param {() => Object<string, number>} names with how many items each has.
 * @param {(chosen: string[]) => void} onchange
 * @param {string} empty what is said where no name fits.
 */
export class TypeAhead {
  constructor(label, names, onchange, empty = words.filters.no_label) {
    this.names = names;
    this.onchange = onchange;
    this.chosen = [];
    this.input = h("input", { id: `names-${++made}`, type: "text", autocomplete: "off", spellcheck: "false", placeholder: words.filters.type });
    this.box = new Combobox(this.input, label, (typed) => this.proposals(typed.toLowerCase()), { eager: true, empty });
    this.input.addEventListener("focus", () => this.box.open());
    this.input.addEventListener("blur", () => (this.input.value = ""));
    this.input.addEventListener("keydown", (event) => event.key === "Backspace" && !this.input.value && this.chosen.length && this.remove(this.chosen.at(-1)));
    this.chips = h("ul", { class: "chips", "aria-label": words.filters.chosen(label) });
    this.element = h("div", { class: "field" }, h("label", { for: this.input.id }, label), this.input, this.box.list, this.chips);
  }

  set(chosen) {
    this.chosen = [...chosen];
    this.chips.replaceChildren(
      ...this.chosen.map((name) =>
        h("li", {}, h("button", { type: "button", class: "chip", "aria-label": words.filters.remove(name), onclick: () => this.remove(name) }, name, icon("close"))),
      ),
    );
    this.chips.hidden = this.chosen.length === 0;
  }

  proposals(typed) {
    const names = Object.entries(this.names()).filter(([name]) => name.toLowerCase().includes(typed) && !this.chosen.includes(name));
    // What begins with the letters comes first, then what many items have.
    names.sort(([one, many], [other, few]) => other.toLowerCase().startsWith(typed) - one.toLowerCase().startsWith(typed) || few - many || one.localeCompare(other));
    return names.slice(0, MOST).map(([name, items]) => ({ text: name, hint: count(items), choose: () => this.add(name) }));
  }

  add(name) {
    this.input.value = "";
    this.set([...this.chosen, name]);
    this.onchange(this.chosen);
  }

  remove(name) {
    this.set(this.chosen.filter((one) => one !== name));
    this.input.focus();
    this.box.close();
    this.onchange(this.chosen);
  }
}
