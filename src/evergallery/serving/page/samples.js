// Something to begin with: one item of each of some labels.

import { ask, thumbnail } from "./api.js";
import { h, told } from "./dom.js";
import { session } from "./session.js";
import { words } from "./words.js";

const SAMPLES = 14;

/**
 * Pictures of the gallery to search with.
 *
 * @param {(id: string) => void} search
 * @param {(why: Error | string) => void} refuse
 */
export function createSamples(search, refuse) {
  const list = h("ul", { class: "samples" });
  const some = h("div", {}, h("h2", {}, words.begin.samples), list);
  const nothing = h("div", { class: "empty" });
  const element = h("div", { hidden: true }, some, nothing);

  async function draw() {
    if (list.childElementCount && list.dataset.items === String(session.status.items)) return;
    try {
      const names = Object.keys(session.labels);
      const step = Math.max(1, Math.floor(names.length / SAMPLES));
      const wanted = names.filter((_, index) => index % step === 0).slice(0, SAMPLES);
      const pages = wanted.length > 1
        ? await Promise.all(wanted.map((label) => ask("GET", "items", { query: { label, limit: 1 } })))
        : [await ask("GET", "items", { query: { limit: SAMPLES } })];
      const items = pages.flatMap((page) => page.items);
      list.dataset.items = String(session.status.items);
      list.replaceChildren(
        ...items.map((item) => h("li", {}, h("button", { type: "button", "aria-label": words.common.search_with(item.label ?? item.id), title: item.label ?? item.id, onclick: () => search(item.id) }, thumbnail(item, 256, "")))),
      );
      element.hidden = false;
      some.hidden = items.length === 0;
      nothing.hidden = items.length > 0;
      nothing.replaceChildren(...told(session.info.promoted ? words.begin.empty : words.generations.empty));
    } catch (error) {
      if (error.status) refuse(error);
    }
  }

  return { element, draw };
}
