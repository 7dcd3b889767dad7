// What a search found: tiles in a grid, and the line that says how it was found.

import { thumbnail } from "./api.js";
import { generation, h, icon } from "./dom.js";
import { percent } from "./figures.js";
import { words } from "./words.js";

/** How near a result is, as it is written; the probability where a check has calibrated it. */
export const measureOf = ({ score, probability }) =>
  probability === null ? words.results.cosine(score) : percent(probability, probability > 0.995 || probability < 0.01 ? 1 : 0);

/**
 * The results as a list in which arrow keys move.
 *
 * @param {object[]} found as the server answers.
 * @param {{search: (item: object) => void, about: (place: number) => void}} acts
 * @param {?(id: string, index: number) => ?{kind: string, sign: string, meaning: string}} moved what became of a result.
 */
export function grid(found, acts, moved = null) {
  return h("ol", { class: "grid", onkeydown: arrows }, found.map((result, index) => tile(result, index, acts, moved?.(result.item.id, index))));
}

function tile(result, index, acts, moved) {
  const { search, about } = acts;
  const { item, score, probability } = result;
  const name = item.label ?? item.id;
  const measure = measureOf(result);
  const spoken = words.results.spoken(name, measure, item.generation, moved?.meaning);
  const strength = Math.max(0, Math.min(1, probability ?? score));
  return h(
    "li",
    { class: `tile ${moved?.kind ?? ""}`, dataset: { item: item.id } },
    h("button", { type: "button", class: "search-with", tabindex: index ? "-1" : "0", "aria-label": spoken, onclick: () => search(item) },
      thumbnail(item, 256, ""), moved && h("span", { class: `moved ${moved.kind}`, "aria-hidden": "true" }, moved.sign)),
    h("button", { type: "button", class: "about", tabindex: "-1", "aria-label": words.common.about(name), title: words.results.about_key, onclick: () => about(index) }, icon("details")),
    h("div", { class: "strength", "aria-hidden": "true" }, h("div", { style: { width: `${100 * strength}%` } })),
    h("div", { class: "of" }, nameOf(name)),
    h("div", { class: "figures" }, h("span", {}, measure), generation(item.generation)),
    judging(item, name, acts),
  );
}

/** A name in two lines; the whole of it by a press, and before a mouse that waits. */
export const nameOf = (name) => h("button", { type: "button", class: "name", tabindex: "-1", title: name, onclick: ({ currentTarget }) => currentTarget.classList.toggle("whole") }, name);

/** Buttons below a result: more or less like it, right or wrong. */
function judging(item, name, { like, marks, refuse }) {
  const button = (sign, what, key, act, pressed = null) =>
    h("button", { type: "button", class: `quiet ${sign}`, tabindex: "-1", "aria-label": words.results.of(what, name), title: words.results.key(what, key), "aria-pressed": pressed === null ? null : String(pressed), dataset: { key }, onclick: act }, icon(sign));
  const box = h("div", { class: "judging" });
  const draw = () => box.replaceChildren(
    button("add", words.results.more, "+", () => like(item, "more")),
    button("less", words.results.less, "-", () => like(item, "less")),
    ...(marks ? [["check", words.results.right, "r", true], ["close", words.results.wrong, "w", false]].map(([sign, what, key, right]) =>
      button(sign, what, key, () => marks.say(item.id, right).then(draw, refuse), marks.of(item.id) === right)) : []),
  );
  draw();
  return box;
}

/** By whom, by what measure, in how many vectors and how fast. */
export function said({ generation: by, results, milliseconds, exact, searched, preview, rescored, way }) {
  const calibrated = !(results.length && results[0].probability === null);
  const took = words.results.took(milliseconds);
  const head = words.results.said(h("strong", {}, words.results.number(results.length)), generation(by), way === "own", calibrated);
  if (preview) return [...head, h("span", { class: "faint" }, words.results.previewed(by, { ...rescored, left: rescored.gone + rescored.late }, took))];
  const spaces = Object.entries(searched ?? {});
  const total = spaces.reduce((sum, [, items]) => sum + items, 0);
  return [...head, h("span", { class: "faint" }, words.results.searched(total, spaces, exact, took))];
}

/** What stands there while nothing is found yet. */
export const skeleton = () => h("div", { class: "grid", "aria-hidden": "true" }, Array.from({ length: 12 }, () => h("div", { class: "tile waiting" }, h("div", { class: "square" }), h("div", { class: "line" }))));

/** Arrow keys move among the pictures of a grid, as they are laid out; Home and End go to its ends. */
export function arrows(event) {
  const buttons = [...event.currentTarget.querySelectorAll(".search-with")];
  const at = buttons.indexOf(event.target);
  if (at < 0) return;
  const top = (button) => button.getBoundingClientRect().top;
  const columns = Math.max(1, buttons.findIndex((button) => top(button) > top(buttons[0]) + 1));
  const wide = columns === 1 && top(buttons.at(-1)) - top(buttons[0]) < 1 ? buttons.length : columns;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + wide, ArrowUp: at - wide, Home: 0, End: buttons.length - 1 }[event.key];
  if (!event.ctrlKey && !event.metaKey && !event.altKey) {
    const tile = event.target.closest(".tile");
    if (event.key === "i") tile.querySelector(".about")?.click();
    else tile.querySelector(`.judging [data-key="${CSS.escape(event.key)}"]`)?.click();
  }
  if (to === undefined) return;
  event.preventDefault();
  if (!buttons[to]) return;
  buttons[at].tabIndex = -1;
  buttons[to].tabIndex = 0;
  buttons[to].focus();
}
