// The lineage as a graph: who learned from whom, from left to right.

import { colour, generation, h, hinting, s } from "./dom.js";
import { words } from "./words.js";

const WIDTH = 176;
const HEIGHT = 74;
const GAP = { x: 56, y: 16 };

/**
 * Links to generations, over lines that join them; in the order of the lineage, so that it reads as a list too.
 *
 * @param {object[]} generations as the server lists them.
 * @param {string} chosen
 */
export function lineage(generations, chosen) {
  const places = placed(generations);
  const x = ({ depth }) => depth * (WIDTH + GAP.x);
  const y = ({ row }) => row * (HEIGHT + GAP.y);
  const all = [...places.values()];
  const size = [Math.max(...all.map(x)) + WIDTH, Math.max(...all.map(y)) + HEIGHT];
  const joined = generations.filter(({ parent }) => places.has(parent)).map((one) => {
    const [from, to] = [places.get(one.parent), places.get(one.name)];
    const [x1, y1, x2, y2] = [x(from) + WIDTH, y(from) + HEIGHT / 2, x(to), y(to) + HEIGHT / 2];
    const middle = (x1 + x2) / 2;
    return s("path", { d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`, class: one.name === chosen ? "chosen" : "" });
  });
  return hinting(h(
    "div",
    { class: "scroll lineage", role: "region", tabindex: "0", "aria-label": words.lineage.title },
    h(
      "div",
      { class: "graph", style: { width: `${size[0]}px`, height: `${size[1]}px` } },
      s("svg", { width: size[0], height: size[1], "aria-hidden": "true" }, joined),
      h("ol", {}, [...places.keys()].map((name) => node(generations.find((one) => one.name === name), places.get(name), { x, y }, chosen))),
    ),
  ));
}

function node(one, place, { x, y }, chosen) {
  const from = one.parent ? words.lineage.learned_from(one.parent) : one.kind === "trained" ? words.lineage.learned_first : one.kind === "vectors" ? words.lineage.elsewhere : words.lineage.registered;
  return h(
    "li",
    { style: { left: `${x(place)}px`, top: `${y(place)}px` } },
    h(
      "a",
      { href: `#/generations?name=${encodeURIComponent(one.name)}`, class: `node ${one.promoted ? "promoted" : ""} ${colour(one.name)}`, "aria-current": one.name === chosen ? "true" : null },
      h("span", { class: "first" }, generation(one.name), one.promoted && h("span", { class: "badge" }, words.lineage.answers)),
      h("span", { class: "second" }, one.method ?? one.backbone ?? one.kind, h("span", { class: "unseen" }, from)),
      h("span", { class: "third" }, words.lineage.vectors(one.items)),
    ),
  );
}

/** Column by distance from the root; a first child continues its parent's row, further ones open rows below. */
function placed(generations) {
  const places = new Map();
  const names = new Set(generations.map(({ name }) => name));
  let rows = 0;
  const place = (one, depth, row) => {
    places.set(one.name, { depth, row });
    generations
      .filter(({ parent }) => parent === one.name)
      .forEach((child, index) => place(child, depth + 1, index ? rows++ : row));
  };
  for (const one of generations) if (!names.has(one.parent)) place(one, 0, rows++);
  return places;
}
