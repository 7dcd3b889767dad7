// The compatibility matrix: what checks have measured between generations, and how to measure the rest.

import { capital, Choice, generation, h, prose, table } from "./dom.js";
import { decimal, percent } from "./figures.js";
import { measureOn } from "./heldout.js";
import { missing, session } from "./session.js";
import { words } from "./words.js";

export function createMatrix() {
  let group = "all";
  let matrix = null;
  const groups = new Choice(words.matrix.classes, Object.entries(words.matrix.groups), (value) => { group = value; draw(matrix); });
  const fill = h("button", { type: "button", onclick: () => measureOn(words.matrix.fill, words.matrix.measure,
    [h("p", {}, words.matrix.how)], { path: "matrix", json: {} }) }, words.gate.asks(words.matrix.fill));
  const element = h("section", { "aria-labelledby": "matrix-title" });

  function draw(found) {
    matrix = found;
    const { generations: names, cells, protocol, metric } = matrix;
    const kinds = new Set(cells.map(({ classes }) => classes));
    if (!kinds.has(group)) group = kinds.has("all") ? "all" : [...kinds][0] ?? "all";
    groups.set(group);
    for (const [key, button] of groups.buttons) button.hidden = !kinds.has(key);
    const of = new Map(cells.filter(({ classes, value }) => classes === group && value !== null).map((cell) => [`${cell.query} ${cell.gallery}`, cell]));
    const measured = new Set(cells.filter(({ classes }) => classes === "all").map(({ query, gallery }) => `${query} ${gallery}`));
    const gaps = names.some((query, place) => names.slice(0, place).some((gallery) => !measured.has(`${query} ${gallery}`)));
    const values = [...of.values()].map(({ value }) => value);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const heatOf = (value) => (most > least ? (value - least) / (most - least) : 0.6);
    const rows = names.map((query) => h("tr", {}, h("th", { scope: "row" }, generation(query)), names.map((gallery) => cellOf(of.get(`${query} ${gallery}`), query === gallery, heatOf))));
    const focused = groups.element.contains(document.activeElement) && document.activeElement;
    const reason = missing("admin", words.matrix.measuring);
    fill.hidden = !gaps || names.length < 2;
    fill.disabled = reason !== null || session.job?.state === "running";
    fill.title = reason ?? "";
    element.replaceChildren(
      h("div", { class: "head" }, h("h2", { id: "matrix-title" }, words.matrix.title), h("div", { class: "buttons" }, fill, kinds.size > 1 ? groups.element : "")),
      values.length ? table(words.matrix.figures, [words.matrix.queries_of, ...names.map(words.matrix.in)], rows, "heat") : h("p", { class: "empty" }, words.matrix.empty),
      values.length ? h("p", { class: "faint" }, words.matrix.legend(capital(metric), percent(least, 1), percent(most, 1))) : "",
      protocol && values.length ? h("p", { class: "faint" }, prose(capital(protocol))) : "",
    );
    if (focused) focused.focus();
  }

  return { element, draw };
}

function cellOf(cell, self, heatOf) {
  if (!cell) return h("td", { class: "none" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "unseen" }, words.matrix.not_measured));
  return h("td", { class: self ? "self" : "", style: { "--heat": heatOf(cell.value) }, title: cell.queries ? words.matrix.queries(cell.queries) : null },
    h("strong", {}, decimal(100 * cell.value, 1)),
    cell.low !== null && cell.low !== undefined && h("span", {}, `${decimal(100 * cell.low, 1)}–${decimal(100 * cell.high, 1)}`));
}
