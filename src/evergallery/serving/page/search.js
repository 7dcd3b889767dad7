// Search: a picture in, the gallery's nearest items out, by one generation or by two side by side.

import { ask, thumbnail } from "./api.js";
import { compared, narrow } from "./comparing.js";
import { announce, Choice, count, counted, field, generation, h, icon, Notice, offer, percent, select } from "./dom.js";
import { showItem } from "./item.js";
import { grid, measureOf, said, skeleton } from "./results.js";
import { onChange, session } from "./session.js";
import { TypeAhead } from "./typeahead.js";

const MANY = [12, 24, 48, 96];
const DEFAULT_MANY = 24;
const SAMPLES = 14;

/** Pictures that were searched with; they live as long as the page, and have no address. */
const uploads = new Map();

export function createSearch(go) {
  let state = {};
  let asked = new AbortController();
  let shown = "";
  let last = [];
  // Whether the query was one of the results: the keyboard goes on among the new ones.
  let pressed = false;

  // The query

  const file = h("input", { type: "file", accept: "image/*", class: "unseen", tabindex: "-1", "aria-label": "Picture file", onchange: (event) => picked(event.target) });
  const camera = h("input", { type: "file", accept: "image/*", capture: "environment", class: "unseen", tabindex: "-1", "aria-label": "Camera", onchange: (event) => picked(event.target) });
  const text = h("input", { type: "search", name: "item", autocomplete: "off", spellcheck: "false", "aria-label": "Item id, or paste a picture", placeholder: "Paste a picture, or type an item’s id", "aria-keyshortcuts": "/" });
  const box = h(
    "form",
    { class: "omnibox", role: "search", onsubmit: (event) => { event.preventDefault(); if (text.value.trim()) ask_(({ item: text.value.trim() })); } },
    icon("search"), text, file, camera,
    h("button", { type: "button", class: "primary", onclick: () => file.click() }, icon("picture"), h("span", {}, "Choose a picture")),
    h("button", { type: "button", class: "photo", onclick: () => camera.click() }, icon("camera"), h("span", { class: "unseen" }, "Take a photo")),
  );
  const problem = new Notice();

  // What comes before the first query

  const samples = h("ul", { class: "samples" });
  const sampled = h("div", { hidden: true }, h("h2", {}, "Or start from one of the gallery"), samples);
  const welcome = h(
    "div",
    { class: "welcome" },
    h("div", { class: "drop", onclick: () => file.click() }, icon("picture"), h("p", { class: "large" }, h("span", { class: "by-mouse" }, "Drop a picture here"), h("span", { class: "by-finger" }, "Choose or take a picture")),
      h("p", { class: "faint by-mouse" }, "or paste one, choose a file, or type the id of an item. ", h("kbd", {}, "/"), " brings you to the field.")),
    sampled,
  );

  // Beside the results

  const query = h("div", { class: "query" });
  const labels = new TypeAhead("Labels", () => session.labels, (chosen) => refine({ label: chosen }));
  const within = h("fieldset", { class: "field" });
  const minimum = h("input", { type: "range", min: "0", max: "0.99", step: "0.01", value: 0, oninput: () => drawMinimum(), onchange: () => refine({ min: Number(minimum.value) || null }) });
  const minimumField = field("Probability at least", minimum, "");
  const minimumText = h("output", { for: minimum.id });
  minimumField.querySelector("label").append(" ", minimumText);
  const minimumHint = h("small", {});
  minimumField.append(minimumHint);
  const many = select((value) => refine({ k: Number(value) === DEFAULT_MANY ? null : value }));
  const filters = h(
    "details",
    { class: "filters", open: window.matchMedia("(min-width: 900px)").matches },
    h("summary", {}, "Filters"),
    labels.element, within, minimumField, field("Results", many),
    h("button", { type: "button", class: "quiet", onclick: () => refine({ label: [], within: [], min: null, k: null }) }, "Clear the filters"),
  );
  const aside = h("aside", { class: "beside", "aria-label": "Query and filters" }, query, filters);

  const by = select((value) => refine({ by: value === session.info.promoted ? null : value }));
  const sides = [0, 1].map((side) => select((value) => refine({ compare: state.compare.map((one, index) => (index === side ? value : one)) })));
  const alone = field("Answered by", by);
  const beside = [field("Compare", sides[0]), field("and", sides[1])];
  const lists = new Choice("Lists", [["one", "One list"], ["two", "Side by side"]], async (which) => refine({ compare: which === "two" ? (state.compare ?? (await pair())) : null }));
  const vectors = new Choice("Vectors", [["searched", "As stored"], ["own", "Each in its own"]], (which) => refine({ own: which === "own" ? "1" : null }));
  const bar = h("div", { class: "bar" }, h("div", { class: "by" }, alone, beside), h("div", { class: "by" }, vectors.element, lists.element));
  const answers = h("div", { class: "answers-of", "aria-busy": "false" });
  const results = h("section", { class: "results", "aria-label": "Results" }, bar, answers);
  const body = h("div", { class: "search-body", hidden: true }, aside, results);

  const element = h("div", { class: "search" }, h("h1", { class: "unseen" }, "Search"), box, problem.element, welcome, body);

  // From a query to its address, and from the address to the answers

  const address = (changes) => {
    const { item, upload, by, compare, own, label, within, min, k } = { ...state, ...changes };
    return { item, upload, by, compare: compare?.join("~"), own: compare ? own : null, label, within, min, k };
  };
  const ask_ = (what) => go("search", address({ item: null, upload: null, ...what }));
  const refine = (changes) => go("search", address(changes), { replace: true });

  function read(parameters) {
    const compare = parameters.get("compare")?.split("~");
    return {
      item: parameters.get("item"), upload: parameters.get("upload"), by: parameters.get("by"),
      compare: compare?.length === 2 ? compare : null, own: parameters.get("own"), label: parameters.getAll("label"), within: parameters.getAll("within"),
      min: Number(parameters.get("min")) || null, k: parameters.get("k"),
    };
  }

  function show(parameters) {
    state = read(parameters);
    const asks = Boolean(state.item || state.upload);
    welcome.hidden = asks;
    body.hidden = !asks;
    drawFilters();
    if (!asks) {
      asked.abort();
      shown = "";
      query.replaceChildren();
      delete query.dataset.of;
      text.value = "";
      drawSamples();
      return;
    }
    search();
  }

  function picked(input) {
    if (input.files[0]) upload(input.files[0]);
    input.value = "";
  }

  function upload(picture) {
    problem.clear();
    const most = session.info.limits?.upload_bytes;
    if (!picture.type.startsWith("image/")) return problem.show(`${picture.name || "What you gave"} is not a picture.`);
    if (most && picture.size > most)
      return problem.show(`${picture.name} has ${(picture.size / 1e6).toFixed(1)} MB, and this server takes up to ${(most / 1e6).toFixed(1)} MB: choose a smaller picture.`);
    const key = String(uploads.size + 1);
    uploads.set(key, { picture, url: URL.createObjectURL(picture) });
    ask_({ upload: key });
  }

  async function search() {
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    problem.clear();
    drawQuery();
    drawBar();
    const upload = state.upload && uploads.get(state.upload);
    if (state.upload && !upload) {
      answers.replaceChildren();
      problem.show("The picture of this search was not kept when the page was loaded again: choose it once more.");
      return;
    }
    // What was typed stays; of a picture that was pressed nobody wants to read the id.
    if (text.value.trim() !== state.item) text.value = "";
    answers.setAttribute("aria-busy", "true");
    const asking = `${state.item ?? ""}|${state.upload ?? ""}`;
    if (asking !== shown) {
      pressed = answers.contains(document.activeElement);
      if (shown) window.scrollTo(0, 0);
      answers.replaceChildren(skeleton());
    }
    shown = asking;
    const generations = state.compare ?? [state.by];
    const found = await Promise.allSettled(generations.map((one) => answerOf(one, upload?.picture, signal)));
    if (signal.aborted) return;
    answers.setAttribute("aria-busy", "false");
    draw(found);
    if (pressed) answers.querySelector(".search-with")?.focus();
    pressed = false;
  }

  let known = { id: null, item: null };

  /** The item that is searched with; asked for once, for its picture and for the search. */
  function itemOf(id) {
    if (known.id !== id) {
      known = { id, item: ask("GET", "item", { query: { id } }) };
      known.item.catch(() => (known = { id: null, item: null }));
    }
    return known.item;
  }

  /** What a generation finds; beside another one, where it may not search what is stored, in vectors of its own. */
  async function answerOf(generation, picture, signal) {
    if (!state.compare) return searchBy(generation, picture, signal);
    try {
      return await searchBy(generation, picture, signal, state.own ? "own" : "searched");
    } catch (error) {
      if (state.own || error.code !== "refused") throw error;
      return searchBy(generation, picture, signal, "own");
    }
  }

  async function searchBy(generation, picture, signal, vectors = "searched") {
    // Left to choose, the server takes the stored vector, of whatever generation it is. What answers is to be what the
    // page says that it is, where there is a picture from which it can answer.
    if (!generation && (picture || (await itemOf(state.item).catch(() => null))?.thumbnail)) generation = session.info.promoted;
    const options = { k: Number(state.k) || DEFAULT_MANY };
    options.k = Math.min(options.k, session.info.limits?.k ?? options.k);
    if (generation) options.generation = generation;
    if (vectors !== "searched") options.vectors = vectors;
    if (state.label.length) options.labels = state.label;
    if (state.within.length) options.generations = state.within;
    if (state.min) options.min_probability = state.min;
    if (!picture) return ask("POST", "search", { json: { item: state.item, ...options }, signal });
    const form = new FormData();
    form.append("image", picture, picture.name || "pasted.png");
    for (const [name, value] of Object.entries(options)) for (const one of [value].flat()) form.append(name, one);
    return ask("POST", "search/image", { form, signal });
  }

  // Drawing

  function draw(found) {
    last = found;
    const [first] = found;
    const good = found.filter((one) => one.status === "fulfilled").map((one) => one.value);
    drawMinimum(good);
    if (state.compare) {
      const { element: pair, summary } = compared(state.compare, found, (side, list = found[side].value.results) => acts(list));
      answers.replaceChildren(pair);
      if (summary) announce(summary);
    } else if (first.status === "rejected") {
      answers.replaceChildren();
      const upload = state.upload && uploads.get(state.upload);
      problem.show(upload?.picture.name ? `${upload.picture.name}: ${first.reason.message}` : first.reason);
    } else {
      const answer = first.value;
      by.value = answer.generation;
      answers.replaceChildren(h("p", { class: "said" }, said(answer)), answer.results.length ? grid(answer.results, acts(answer.results)) : nothing());
      announce(`${counted(answer.results.length, "result")} by ${answer.generation}.`);
    }
  }

  /** What a press does in a list of results. */
  const acts = (list) => ({
    search: (item) => ask_({ item: item.id }),
    about: (place) => showItem(list[place].item, { go, measure: measureOf(list[place]) }),
  });

  const nothing = () => h("p", { class: "empty" }, state.label.length || state.within.length || state.min ? "Nothing is found with these filters." : "The gallery has nothing to find.");

  function drawQuery() {
    const upload = state.upload && uploads.get(state.upload);
    const key = `${state.item ?? ""}|${state.upload ?? ""}`;
    if (query.dataset.of === key) return;
    query.dataset.of = key;
    if (upload) {
      query.replaceChildren(h("img", { src: upload.url, alt: "Your picture", onerror: (event) => event.target.classList.add("gone") }), h("p", {}, h("strong", {}, upload.picture.name || "Pasted picture"), h("span", { class: "faint" }, "your picture; the server does not keep it")));
      return;
    }
    query.replaceChildren();
    if (!state.item) return;
    // Whoever asks for another list with the same query must not lose its picture: this is not aborted with the search.
    itemOf(state.item).then(
      (item) => query.dataset.of === key && query.replaceChildren(thumbnail(item, 512), h("p", {}, h("strong", {}, item.label ?? item.id), item.label && h("span", { class: "faint id", title: item.id }, /^[0-9a-f]{64}$/.test(item.id) ? `${item.id.slice(0, 12)}…` : item.id), h("button", { type: "button", class: "link", onclick: () => showItem(item, { go }) }, "About this item"))),
      () => delete query.dataset.of,
    );
  }

  function drawBar() {
    const { promoted } = session.info;
    const options = session.generations.map(({ name }) => [name, name === promoted ? `${name} (answers queries)` : name]);
    alone.hidden = Boolean(state.compare);
    for (const one of beside) one.hidden = !state.compare;
    offer(by, options, state.by ?? promoted);
    sides.forEach((side, index) => offer(side, options, state.compare?.[index] ?? promoted));
    lists.element.hidden = options.length < 2;
    lists.set(state.compare ? "two" : "one");
    vectors.element.hidden = !state.compare;
    vectors.set(state.own ? "own" : "searched");
  }

  /** The generation that answers beside the one that did before it, or else the one that does best in the same vectors. */
  async function pair() {
    const names = session.generations.map(({ name }) => name);
    const answers = state.by ?? session.info.promoted;
    const before = session.status.can_roll_back_to ?? session.generations.find(({ name }) => name === answers)?.parent;
    if (before && before !== answers) return inOrder(before, answers);
    const { cells } = await ask("GET", "matrix").catch(() => ({ cells: [] }));
    const measured = cells.filter(({ query, gallery, classes }) => gallery === answers && query !== answers && classes === "all");
    const best = measured.toSorted((one, another) => another.value - one.value)[0]?.query;
    const at = names.indexOf(answers);
    return inOrder(best ?? names[at + 1] ?? names[at - 1], answers);
  }

  function inOrder(...pair) {
    const names = session.generations.map(({ name }) => name);
    return pair.toSorted((one, other) => names.indexOf(one) - names.indexOf(other));
  }

  function drawFilters() {
    labels.set(state.label);
    const stored = session.status?.by_generation ?? {};
    const names = Object.keys(stored);
    within.hidden = names.length < 2 && !state.within.length;
    within.replaceChildren(
      h("legend", {}, "Vectors of"),
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
    const sizes = [...new Set([...MANY.filter((number) => number <= most).map(String), k])];
    offer(many, sizes.map((number) => [number, number]), k);
    filters.classList.toggle("used", Boolean(state.label.length || state.within.length || state.min));
  }

  function drawMinimum(found = null) {
    minimumText.textContent = Number(minimum.value) ? percent(minimum.value) : "any";
    if (!found) return;
    const uncalibrated = found.length > 0 && !state.min && found.some(({ results }) => results.length && results[0].probability === null);
    minimum.disabled = uncalibrated;
    minimumHint.textContent = uncalibrated ? "These scores have no probability: no check has calibrated them." : "";
  }

  async function drawSamples() {
    if (samples.childElementCount && samples.dataset.items === String(session.status.items)) return;
    try {
      // One of each of some labels, so that there is something to choose from.
      const names = Object.keys(session.labels);
      const step = Math.max(1, Math.floor(names.length / SAMPLES));
      const wanted = names.filter((_, index) => index % step === 0).slice(0, SAMPLES);
      const pages = wanted.length > 1
        ? await Promise.all(wanted.map((label) => ask("GET", "items", { query: { label, limit: 1 } })))
        : [await ask("GET", "items", { query: { limit: SAMPLES } })];
      const items = pages.flatMap((page) => page.items);
      samples.dataset.items = String(session.status.items);
      samples.replaceChildren(
        ...items.map((item) => h("li", {}, h("button", { type: "button", "aria-label": `Search with ${item.label ?? item.id}`, title: item.label ?? item.id, onclick: () => ask_({ item: item.id }) }, thumbnail(item, 256, "")))),
      );
      sampled.hidden = items.length === 0;
      if (!items.length) problem.show("The gallery is empty: add pictures under Gallery, or with  evergallery index IMAGES");
    } catch (error) {
      if (error.status) problem.show(error);
    }
  }

  // Pictures from outside

  const here = () => element.isConnected && !document.querySelector("dialog[open]");
  document.addEventListener("paste", (event) => {
    const picture = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!picture || !here()) return;
    event.preventDefault();
    upload(picture);
  });
  let over = 0;
  const files = (event) => here() && [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragenter", (event) => { if (files(event)) { over += 1; element.classList.add("dropping"); } });
  document.addEventListener("dragleave", (event) => { if (files(event) && (over -= 1) <= 0) { over = 0; element.classList.remove("dropping"); } });
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    over = 0;
    element.classList.remove("dropping");
    if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
  });

  narrow.addEventListener("change", () => element.isConnected && state.compare && !body.hidden && draw(last));
  onChange((values) => {
    if (!element.isConnected) return;
    if (values.status || values.info || values.labels) drawFilters();
    // Another generation answers: what is shown was another's answer.
    if (values.generations && !body.hidden) search();
    if (values.status && body.hidden) drawSamples();
  });

  return { title: "Search", element, show, focus: () => text.focus() };
}
