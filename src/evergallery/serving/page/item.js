// One item of the gallery, at large.

import { ask, thumbnail } from "./api.js";
import { open, question } from "./dialog.js";
import { announce, generation, h, icon, short } from "./dom.js";
import { moment } from "./figures.js";
import { can, reloadItems } from "./session.js";
import { words } from "./words.js";

/**
 * Show an item with all that is known of it.
 *
 * @param {object} item
 * @param {{go: function, measure?: string, beside?: {item: object, measure?: string}[], place?: number, onDeleted?: function}} around
 *   how near it was to the query, and the list that it stands in, in which one goes on from it.
 */
export function showItem(item, { go, measure = null, beside = [{ item, measure }], place = 0, onDeleted = () => {} }) {
  let at = place;
  const heading = (one) => one.label ?? short(one.id);
  const body = h("div");
  const previous = h("button", { type: "button", onclick: () => move(-1) }, icon("left"), h("span", {}, words.item.previous));
  const next = h("button", { type: "button", onclick: () => move(1) }, h("span", {}, words.item.next), icon("right"));
  const { dialog } = open(heading(item), [
    body,
    h("div", { class: "buttons" },
      can("write") && h("button", { type: "button", class: "danger quiet", onclick: async () => { if (await deleteItems([beside[at].item])) { dialog.close(); onDeleted(); } } }, words.common.delete),
      beside.length > 1 && [previous, next],
      h("button", { type: "button", onclick: () => dialog.close() }, words.common.close),
      h("button", { type: "button", class: "primary", autofocus: true, onclick: () => { dialog.close(); go("search", { item: beside[at].item.id }); } }, words.item.search)),
  ], "item-dialog");
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && beside.length > 1) {
      event.preventDefault();
      move(step);
    }
  });

  function move(step) {
    const to = at + step;
    if (!beside[to]) return;
    at = to;
    draw();
    announce(words.item.place(heading(beside[at].item), at + 1, beside.length));
  }

  function draw() {
    const { item: one, measure: near } = beside[at];
    dialog.querySelector("h2").textContent = heading(one);
    previous.disabled = at === 0;
    next.disabled = at === beside.length - 1;
    body.replaceChildren(h("div", { class: "portrait" }, thumbnail(one, 1024), h("dl", {}, facts(one, near).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))));
    // A button that is gone, or out of use, lets the keyboard go, and with it the arrows.
    const here = document.activeElement;
    if (!dialog.contains(here) || here.disabled) dialog.querySelector(".primary").focus();
  }

  draw();
}

/** What is known of an item, each with a button to copy it where somebody may want to; no hash stands there twice. */
function facts(item, measure) {
  return [
    [words.common.label, item.label ? copied(item.label) : words.common.none],
    [words.item.match, measure],
    [words.item.vector_of, generation(item.generation)],
    [words.item.id, copied(item.id, short(item.id))],
    [words.item.image, item.uri && copied(item.uri)],
    [words.item.added, moment(item.added)],
    [words.item.content, item.content_hash && item.content_hash !== item.id && copied(item.content_hash, short(item.content_hash))],
    ...Object.entries(item.metadata ?? {}).map(([name, value]) => [name, copied(typeof value === "string" ? value : JSON.stringify(value))]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== false);
}

function copied(text, shown = text) {
  const button = h("button", { type: "button", class: "quiet copy", "aria-label": words.item.copy_what(shown), title: words.item.copy, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(words.item.copied);
      button.replaceChildren(icon("check"));
    } catch {
      // Without a secure connection there is no clipboard: what is to be copied is selected instead.
      getSelection().selectAllChildren(value);
    }
  } }, icon("copy"));
  const value = h("span", { class: shown === text ? "" : "id", title: shown === text ? null : text }, shown);
  return h("span", { class: "copied" }, value, button);
}

/** Delete items after a question; returns whether they were. */
export function deleteItems(items) {
  const many = items.length > 1;
  return question(
    many ? words.item.delete_many(items.length) : words.item.delete_one(items[0].label ?? short(items[0].id)),
    [h("p", {}, many ? words.item.leave : words.item.leaves)],
    {
      confirm: words.common.delete, danger: true,
      run: async () => {
        await ask("DELETE", "items", { json: { ids: items.map(({ id }) => id) } });
        await reloadItems();
      },
    },
  );
}
