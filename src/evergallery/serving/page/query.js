// What is searched with: pictures of one's own and stored items, what results should not be like, and a part of a picture.

import { ask, thumbnail } from "./api.js";
import { croppable } from "./cropping.js";
import { h, icon, short } from "./dom.js";
import { showItem } from "./item.js";
import { words } from "./words.js";

/** Pictures that were searched with; they live as long as the page, and have no address. */
const uploads = new Map();

/** Keep a picture in memory; its key stands in the address. */
export function remember(picture) {
  const key = String(uploads.size + 1);
  uploads.set(key, { picture, url: URL.createObjectURL(picture) });
  return key;
}

export const remembered = (key) => uploads.get(key);

/** The ids and pictures that a state of the search is about. */
export const askedFor = ({ item, text, upload, more, less }) => JSON.stringify([item, text, upload, more, less]);

/**
 * The panel of the query.
 *
 * @param {{searchWith: (picture: Blob) => void, change: (parts: object) => void, go: function}} acts
 */
export function createQuery({ searchWith, change, go }) {
  const element = h("div", { class: "query" });
  let drawn = null;

  function draw(state) {
    const key = askedFor(state);
    if (drawn === key) return;
    drawn = key;
    const [first, ...others] = state.upload.map((one) => uploads.get(one)).filter(Boolean);
    element.replaceChildren();
    if (first) {
      const image = h("img", { src: first.url, alt: words.query.yours, onerror: (event) => event.target.classList.add("gone") });
      element.append(croppable(image, searchWith), h("p", {}, h("strong", {}, first.picture.name || words.query.pasted), h("span", { class: "faint" }, words.query.not_kept)));
    } else if (state.item) drawItem(state.item, key);
    else if (state.text) element.append(h("p", { class: "words" }, h("strong", {}, words.query.words(state.text)), h("span", { class: "faint" }, words.query.of_words)));
    const parts = [
      ...others.map((one, index) => part(words.query.more, h("img", { src: one.url, alt: "" }), one.picture.name || words.query.pasted, () => change({ upload: state.upload.filter((_, place) => place !== index + 1) }))),
      ...["more", "less"].flatMap((kind) => state[kind].map((id) => stored(kind, id, () => change({ [kind]: state[kind].filter((one) => one !== id) })))),
    ];
    if (parts.length) element.append(h("ul", { class: "parts", "aria-label": words.query.also }, parts));
  }

  function drawItem(id, key) {
    // Whoever asks for another list with the same query must not lose its picture: this is not aborted with the search.
    itemOf(id).then((item) => {
      if (drawn !== key) return;
      element.prepend(croppable(thumbnail(item, 1024), searchWith),
        h("p", {}, h("strong", {}, item.label ?? short(item.id)), item.label && h("span", { class: "faint id", title: item.id }, short(item.id)),
          h("button", { type: "button", class: "link", onclick: () => showItem(item, { go }) }, words.query.about)));
    }, () => (drawn = null));
  }

  const stored = (kind, id, remove) => {
    const row = part(words.query[kind], "", short(id), remove, kind);
    itemOf(id).then((item) => row.replaceWith(part(words.query[kind], thumbnail(item, 64, ""), item.label ?? short(id), remove, kind)), () => {});
    return row;
  };

  return { element, draw, forget: () => { drawn = null; element.replaceChildren(); } };
}

const part = (how, image, name, remove, kind = "more") =>
  h("li", { class: kind }, image, h("span", {}, h("small", {}, how), name), h("button", { type: "button", class: "quiet", "aria-label": words.query.leave_out(name), onclick: remove }, icon("close")));

let known = { id: null, item: null };

/** A stored item; asked for once, for its picture and for the search. */
export function itemOf(id) {
  if (known.id !== id) {
    known = { id, item: ask("GET", "item", { query: { id } }) };
    known.item.catch(() => (known = { id: null, item: null }));
  }
  return known.item;
}
