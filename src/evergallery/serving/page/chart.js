// The curve of a plan: recall that is expected while more and more of the gallery is refreshed.

import { h, s, table } from "./dom.js";
import { decimal, percent } from "./figures.js";
import { words } from "./words.js";

const SIZE = { width: 560, height: 260, left: 48, right: 16, top: 14, bottom: 36 };

/**
 * A line for each order, with the same figures as a table.
 *
 * @param {Object<string, {fraction: number, recall: number, low?: number, high?: number}[]>} orders
 * @param {string} chosen order, drawn strongest.
 */
export function recallCurve(orders, chosen) {
  const names = Object.keys(orders);
  const points = names.flatMap((name) => orders[name]);
  const values = points.flatMap(({ recall, low, high }) => [recall, low ?? recall, high ?? recall]);
  const step = Math.max(...values) - Math.min(...values) > 0.25 ? 0.1 : 0.05;
  const bottom = Math.max(0, Math.floor(Math.min(...values) / step) * step);
  const top = Math.min(1, Math.max(bottom + step, Math.ceil(Math.max(...values) / step) * step));
  const x = (fraction) => SIZE.left + fraction * (SIZE.width - SIZE.left - SIZE.right);
  const y = (recall) => SIZE.height - SIZE.bottom - ((recall - bottom) / (top - bottom)) * (SIZE.height - SIZE.top - SIZE.bottom);
  const grid = Array.from({ length: Math.round((top - bottom) / step) + 1 }, (_, index) => bottom + index * step).map((value) => [
    s("line", { class: "rule", x1: x(0), x2: x(1), y1: y(value), y2: y(value) }),
    s("text", { x: SIZE.left - 8, y: y(value) + 4, "text-anchor": "end" }, decimal(100 * value)),
  ]);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((value) => s("text", { x: x(value), y: SIZE.height - 14, "text-anchor": value === 1 ? "end" : "middle" }, percent(value)));
  const lines = names.toSorted((one, other) => (one === chosen) - (other === chosen)).map((name) => {
    const curve = orders[name];
    const ends = curve.every(({ low, high }) => low !== null && low !== undefined && high !== null && high !== undefined);
    return s("g", { class: `curve c${names.indexOf(name) % 5} ${name === chosen ? "chosen" : ""}` },
      ends && name === chosen && s("path", { class: "band", d: `M${[...curve.map((one) => `${x(one.fraction)} ${y(one.high)}`), ...curve.toReversed().map((one) => `${x(one.fraction)} ${y(one.low)}`)].join("L")}Z` }),
      s("path", { class: "line", d: `M${curve.map((one) => `${x(one.fraction)} ${y(one.recall)}`).join("L")}` }),
      curve.map((one) => s("circle", { cx: x(one.fraction), cy: y(one.recall), r: name === chosen ? 4 : 3 })));
  });
  const shares = [...new Set(points.map(({ fraction }) => fraction))];
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, words.refreshing.chart),
    s("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, "aria-hidden": "true" }, grid, marks, lines),
    h("ul", { class: "legend" }, names.map((name, index) => h("li", { class: name === chosen ? "chosen" : "" }, h("span", { class: `dot c${index % 5}`, "aria-hidden": "true" }), words.refreshing.orders[name] ?? name))),
    h("details", {}, h("summary", {}, words.refreshing.as_table),
      table(words.refreshing.table, [words.refreshing.order_column, ...shares.map((share) => percent(share))],
        names.map((name) => h("tr", {}, h("th", { scope: "row" }, words.refreshing.orders[name] ?? name), orders[name].map(({ recall }) => h("td", {}, decimal(100 * recall, 1))))))),
  );
}
