// Where a search begins: a field for names, and pictures that are chosen, photographed, pasted or dropped.

import { ask } from "./api.js";
import { Combobox } from "./combobox.js";
import { h, icon, short } from "./dom.js";
import { count } from "./figures.js";
import { session } from "./session.js";
import { words } from "./words.js";

/**
 * The field and its buttons.
 *
 * @param {{item: (id: string) => void, text: (typed: string) => void, pictures: (files: File[]) => void, browse: (filter: object) => void, refuse: (why: string) => void}} acts
 */
export function createOmnibox({ item, text: searchText, pictures, browse, refuse }) {
  const taken = (input) => { take([...input.files]); input.value = ""; };
  const file = h("input", { type: "file", accept: "image/*", multiple: true, class: "unseen", tabindex: "-1", "aria-label": words.begin.file, onchange: (event) => taken(event.target) });
  const camera = h("input", { type: "file", accept: "image/*", capture: "environment", class: "unseen", tabindex: "-1", "aria-label": words.begin.camera, onchange: (event) => taken(event.target) });
  const text = h("input", { type: "search", name: "item", autocomplete: "off", spellcheck: "false", "aria-label": words.begin.field, placeholder: words.begin.placeholder, "aria-keyshortcuts": "/" });
  const proposals = new Combobox(text, words.begin.proposals, propose);
  const element = h(
    "form",
    { class: "omnibox", role: "search", onsubmit: (event) => { event.preventDefault(); if (text.value.trim()) item(text.value.trim()); proposals.close(); } },
    icon("search"), text, proposals.list, file, camera,
    h("button", { type: "button", class: "primary", onclick: () => file.click() }, icon("picture"), h("span", {}, words.begin.choose_picture)),
    h("button", { type: "button", class: "photo", onclick: () => camera.click() }, icon("camera"), h("span", { class: "unseen" }, words.begin.take_photo)),
  );

  async function propose(typed) {
    if (!typed) return [];
    const found = await ask("GET", "suggest", { query: { text: typed } }).catch(() => null);
    if (!found || text.value.trim() !== typed) return [];
    const chosen = (act) => () => { text.value = ""; act(); };
    return [
      ...(reads() ? [{ text: words.query.words(typed), hint: words.begin.with_words, choose: () => searchText(typed) }] : []),
      ...found.labels.map(({ label, items }) => ({ text: label, hint: words.common.items(items), choose: chosen(() => browse({ label })) })),
      ...found.metadata.map(({ name, value, items }) => ({ text: `${name}: ${value}`, hint: count(items), choose: chosen(() => browse({ meta: JSON.stringify([name, value]) })) })),
      ...found.ids.map((id) => ({ text: short(id), hint: words.begin.id, choose: chosen(() => item(id)) })),
    ];
  }

  /** Pictures that the server takes; why another one is none. */
  function take(files) {
    const most = session.info.limits?.upload_bytes;
    const good = [];
    for (const one of files) {
      const name = one.name || words.begin.unnamed;
      if (!one.type.startsWith("image/")) return refuse(words.begin.no_picture(name));
      if (most && one.size > most) return refuse(words.begin.too_large(name, one.size, most));
      good.push(one);
    }
    return good.length ? pictures(good) : undefined;
  }

  return { element, take, choose: () => file.click(), focus: () => text.focus(), show: (id) => { if (text.value.trim() !== id) text.value = ""; } };
}

/** Whether what answers has a text tower. */
const reads = () => session.generations.some(({ promoted, reads_words: can }) => promoted && can);

/** Take pictures that are pasted, or dropped on the page, while `here` says that they are meant for this view. */
export function receive(element, here, take) {
  document.addEventListener("paste", (event) => {
    const pictures = [...(event.clipboardData?.files ?? [])].filter((one) => one.type.startsWith("image/"));
    if (!pictures.length || !here()) return;
    event.preventDefault();
    take(pictures);
  });
  let over = 0;
  const files = (event) => here() && [...(event.dataTransfer?.types ?? [])].includes("Files");
  const left = () => { over = 0; element.classList.remove("dropping"); };
  document.addEventListener("dragenter", (event) => { if (files(event)) { over += 1; element.classList.add("dropping"); } });
  document.addEventListener("dragleave", (event) => { if (files(event) && (over -= 1) <= 0) left(); });
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    left();
    take([...event.dataTransfer.files]);
  });
}
