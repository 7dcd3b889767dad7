// What a search may find: labels, metadata, vectors of which generations, how probable, how many.

import { field, generation, h, offer, select } from "./dom.js";
import { count, percent } from "./figures.js";
import { session } from "./session.js";
import { TypeAhead } from "./typeahead.js";
import { words } from "./words.js";

const MANY = [12, 24, 48, 96, 240, 1000];
export const DEFAULT_MANY = 24;

/** A name and a value of the metadata as one text, and back. */
const written = (name, value) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`;

/** The parts of a request that filter, of a state of the search. */
export function optionsOf({ k, label, within, min, meta }) {
  const options = { k: Math.min(Number(k) || DEFAULT_MANY, session.info.limits?.k ?? Infinity) };
  if (label.length) options.labels = label;
  if (within.length) options.generations = within;
  if (min) options.min_probability = min;
  if (meta.length) options.metadata = Object.fromEntries(meta.map((one) => JSON.parse(one)));
  return options;
}

export const narrows = ({ label, within, min, meta }) => Boolean(label.length || within.length || min || meta.length);

/**
 * The filters beside the results.
 *
 * @param {(changes: object) => void} refine
 */
export function createFilters(refine) {
  let state = {};
  const labels = new TypeAhead(words.filters.labels, () => session.labels, (chosen) => refine({ label: chosen }));
  const metadata = new TypeAhead(words.filters.metadata, values, (chosen) => refine({ meta: latest(chosen) }), words.filters.no_value);
  const within = h("fieldset", { class: "field" });
  const minimum = h("input", { type: "range", min: "0", max: "0.99", step: "0.01", value: 0, oninput: () => drawMinimum(), onchange: () => refine({ min: Number(minimum.value) || null }) });
  const minimumField = field(words.filters.least, minimum, "");
  const minimumText = h("output", { for: minimum.id });
  minimumField.querySelector("label").append(" ", minimumText);
  const minimumHint = h("small", {});
  minimumField.append(minimumHint);
  const many = select((value) => refine({ k: Number(value) === DEFAULT_MANY ? null : value }));
  const element = h(
    "details",
    { class: "filters", open: window.matchMedia("(min-width: 900px)").matches },
    h("summary", {}, words.filters.title),
    labels.element, metadata.element, within, minimumField, field(words.filters.results, many),
    h("button", { type: "button", class: "quiet", onclick: () => refine({ label: [], within: [], meta: [], min: null, k: null }) }, words.filters.clear),
  );

  /** How many items each value has, by its name and itself in words. */
  function values() {
    return Object.fromEntries(Object.entries(session.metadata).flatMap(([name, some]) => some.map(({ value, items }) => [written(name, value), items])));
  }

  /** What was chosen as it goes into the address; of a name the value that was chosen last. */
  function latest(chosen) {
    const pairs = Object.entries(session.metadata).flatMap(([name, some]) => some.map(({ value }) => [name, value]));
    const found = chosen.map((text) => pairs.find(([name, value]) => written(name, value) === text)).filter(Boolean);
    return [...new Map(found.map((pair) => [pair[0], JSON.stringify(pair)])).values()];
  }

  function draw(next) {
    state = next;
    labels.set(state.label);
    metadata.set(state.meta.map((one) => written(...JSON.parse(one))));
    metadata.element.hidden = !Object.keys(session.metadata).length && !state.meta.length;
    const stored = session.status?.by_generation ?? {};
    const names = Object.keys(stored);
    within.hidden = names.length < 2 && !state.within.length;
    within.replaceChildren(
      h("legend", {}, words.filters.vectors_of),
      ...names.map((name) =>
        h("label", { class: "check" },
          h("input", { type: "checkbox", checked: !state.within.length || state.within.includes(name), onchange: () => {
            const on = [...within.querySelectorAll("input")].map((input, index) => input.checked && names[index]).filter(Boolean);
            refine({ within: on.length === names.length ? [] : on });
          } }),
          generation(name), h("span", { class: "faint" }, count(stored[name]))),
      ),
    );
    minimum.value = state.min ?? 0;
    drawMinimum();
    const most = session.info.limits?.k ?? MANY.at(-1);
    const k = String(state.k ?? DEFAULT_MANY);
    const sizes = [...new Set([...MANY.filter((number) => number <= most).map(String), k])].toSorted((one, other) => one - other);
    offer(many, sizes.map((number) => [number, count(Number(number))]), k);
    element.classList.toggle("used", narrows(state));
  }

  /** Without a calibration there is no probability to ask for. */
  function drawMinimum(found = null) {
    minimumText.textContent = Number(minimum.value) ? percent(minimum.value) : words.common.any;
    if (!found) return;
    const uncalibrated = found.length > 0 && !state.min && found.some(({ results }) => results.length && results[0].probability === null);
    minimum.disabled = uncalibrated;
    minimumHint.textContent = uncalibrated ? words.filters.uncalibrated : "";
  }

  return { element, draw, drawMinimum };
}
