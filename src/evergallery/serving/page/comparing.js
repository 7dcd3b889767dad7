// Two answers to one query: side by side, or on a phone as one list with both ranks.

import { generation, h, Notice } from "./dom.js";
import { grid, said } from "./results.js";
import { words } from "./words.js";

/** Where two columns are too narrow to be read. */
export const narrow = window.matchMedia("(max-width: 599px)");

/**
 * What two generations found.
 *
 * @param {[string, string]} names
 * @param {PromiseSettledResult[]} found an answer of each, or why there is none.
 * @param {object} acts of `grid`, for each side.
 */
export function compared(names, found, acts) {
  const lists = found.map((one) => (one.status === "fulfilled" ? one.value.results : null));
  const places = lists.map((list) => new Map((list ?? []).map(({ item }, index) => [item.id, index])));
  const both = lists.every(Boolean);
  const summary = both ? moves(names, places) : null;
  const body = both && narrow.matches ? oneList(names, found, places, acts) : columns(names, found, places, acts, both);
  return { element: h("div", {}, summary && h("p", { class: "moves" }, summary), body), summary };
}

function columns(names, found, places, acts, both) {
  const movements = [
    (id) => (both && !places[1].has(id) ? { kind: "gone", sign: words.comparing.gone, meaning: words.comparing.not_found_by(names[1]) } : null),
    (id, index) => (both ? moved(names[0], places[0].get(id), index) : null),
  ];
  const sides = found.map((one, side) => {
    const heading = [h("h2", {}, generation(names[side]), badge(one.value))];
    const label = { class: "column", "aria-label": words.comparing.of(names[side]) };
    if (one.status === "rejected") {
      const notice = new Notice();
      notice.show(one.reason);
      return h("section", label, heading, notice.element);
    }
    return h("section", label, heading, h("p", { class: "said" }, said(one.value)), one.value.results.length ? grid(one.value.results, acts(side), movements[side]) : h("p", { class: "empty" }, words.comparing.nothing));
  });
  const box = h("div", { class: "columns" }, sides);
  const link = (event) => {
    const id = event.target.closest?.(".tile")?.dataset.item;
    for (const one of box.querySelectorAll(".tile")) one.classList.toggle("linked", id !== undefined && one.dataset.item === id);
  };
  for (const kind of ["mouseover", "focusin"]) box.addEventListener(kind, link);
  for (const kind of ["mouseleave", "focusout"]) box.addEventListener(kind, link.bind(null, { target: {} }));
  return box;
}

/** Every item once, by the better of its two places, which are both written on it. */
function oneList(names, found, places, acts) {
  const best = (id) => Math.min(...places.map((side) => side.get(id) ?? Infinity));
  const union = new Map(found.toReversed().flatMap((one) => one.value.results.map((result) => [result.item.id, result])));
  const merged = [...union.values()].toSorted((one, other) => best(one.item.id) - best(other.item.id) || (places[1].get(one.item.id) ?? Infinity) - (places[1].get(other.item.id) ?? Infinity));
  const ranks = (id) => {
    const [before, after] = places.map((side) => (side.has(id) ? side.get(id) + 1 : null));
    const kind = before === null ? "new" : after === null ? "gone" : after < before ? "up" : after > before ? "down" : "same";
    const spoken = (name, rank) => (rank === null ? words.comparing.not_found_by(name) : words.comparing.place_by(rank, name));
    return { kind, sign: `${before ?? "–"} → ${after ?? "–"}`, meaning: words.comparing.both(spoken(names[0], before), spoken(names[1], after)) };
  };
  return h("section", { class: "column", "aria-label": words.comparing.of_both },
    found.map((one) => one.value.preview && h("p", { class: "said" }, badge(one.value), " ", said(one.value))),
    h("p", { class: "faint" }, words.comparing.places(generation(names[0]), generation(names[1]))),
    grid(merged, acts(1, merged), ranks));
}

const badge = (answer) => answer?.preview && h("span", { class: "badge preview" }, words.comparing.preview);

function moved(other, before, after) {
  if (before === undefined) return { kind: "new", sign: words.comparing.new, meaning: words.comparing.not_found_by(other) };
  const up = before - after;
  if (!up) return { kind: "same", sign: "=", meaning: words.comparing.same };
  return up > 0 ? { kind: "up", sign: `▲ ${up}`, meaning: words.comparing.up(up) } : { kind: "down", sign: `▼ ${-up}`, meaning: words.comparing.down(-up) };
}

function moves([one, other], [before, after]) {
  const kept = [...after.keys()].filter((id) => before.has(id));
  const stayed = kept.filter((id) => before.get(id) === after.get(id)).length;
  if (kept.length === before.size && stayed === kept.length && before.size === after.size) return words.comparing.all_same(one, other);
  return words.comparing.moves(kept.length, stayed, one, before.size - kept.length, other, after.size - kept.length);
}
