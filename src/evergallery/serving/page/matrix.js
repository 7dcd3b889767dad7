// The compatibility matrix: what checks have measured between generations, and how to measure the rest.

import { capital, Choice, counted, generation, h, percent, prose, table, withoutCommands } from "./dom.js";
import { measureOn } from "./heldout.js";
import { missing, session } from "./session.js";

export function createMatrix() {
  let group = "all";
  let matrix = null;
  const groups = new Choice("Classes", [["all", "All classes"], ["old", "Old"], ["new", "New"]], (value) => { group = value; draw(matrix); });
  const fill = h("button", { type: "button", onclick: () => measureOn("Fill the matrix", "Measure the rest",
    [h("p", {}, "Every generation is measured in the vectors of every older one where no check has done that. What checks have shown stays.")], { path: "matrix", json: {} }) }, "Fill the matrix…");
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
    const reason = missing("admin", "measuring");
    fill.hidden = !gaps || names.length < 2;
    fill.disabled = reason !== null || session.job?.state === "running";
    fill.title = reason ?? "";
    element.replaceChildren(
      h("div", { class: "head" }, h("h2", { id: "matrix-title" }, "Compatibility matrix"), h("div", { class: "buttons" }, fill, kinds.size > 1 ? groups.element : "")),
      values.length ? table("Figures of the matrix", ["queries of", ...names.map((name) => `in ${name}`)], rows, "heat") : h("p", { class: "empty" }, "Nothing was measured yet."),
      values.length ? h("p", { class: "faint" }, `${capital(metric)} in %, with its interval: queries of a row’s generation in the vectors of a column’s. Framed: a generation in vectors of its own. The stronger the colour, the higher, from ${percent(least, 1)} to ${percent(most, 1)}.`) : "",
      protocol && values.length ? h("p", { class: "faint" }, ...prose(capital(withoutCommands(protocol))).flat()) : "",
    );
    if (focused) focused.focus();
  }

  return { element, draw };
}

function cellOf(cell, self, heatOf) {
  if (!cell) return h("td", { class: "none" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "unseen" }, "not measured"));
  return h("td", { class: self ? "self" : "", style: { "--heat": heatOf(cell.value) }, title: cell.queries ? counted(cell.queries, "query", "queries") : null },
    h("strong", {}, (100 * cell.value).toFixed(1)),
    cell.low !== null && cell.low !== undefined && h("span", {}, `${(100 * cell.low).toFixed(1)}–${(100 * cell.high).toFixed(1)}`));
}
