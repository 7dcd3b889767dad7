// Search: pictures or items in, the gallery's nearest items out, by one generation or by two side by side.

import { ask } from "./api.js";
import { compared, narrow } from "./comparing.js";
import { announce, Choice, field, h, icon, Notice, offer, select } from "./dom.js";
import { percent } from "./figures.js";
import { createFilters, narrows, optionsOf } from "./filters.js";
import { showItem } from "./item.js";
import { fitted, turnFit } from "./looks.js";
import { Marks } from "./marking.js";
import { createOmnibox, receive } from "./omnibox.js";
import { askedFor, createQuery, itemOf, remember, remembered } from "./query.js";
import { grid, measureOf, said, skeleton } from "./results.js";
import { createSamples } from "./samples.js";
import { csv, json, save, zip } from "./saving.js";
import { can, onChange, session } from "./session.js";
import { words } from "./words.js";

/** Below it the page says that nothing like the query is there; where the two cases are told apart badly, it says nothing. */
const ABSENT = 0.1;

export function createSearch(go) {
  let state = read(new URLSearchParams());
  let asked = new AbortController();
  let shown = "";
  let last = [];
  let marks = null;
  // Whether the query was one of the results: the keyboard goes on among the new ones.
  let pressed = false;

  const problem = new Notice();
  const omnibox = createOmnibox({ item: (id) => start({ item: id }), text: (text) => start({ text }), pictures: upload, browse: (filter) => go("gallery", filter), refuse: (why) => problem.show(why) });
  const samples = createSamples((id) => start({ item: id }), (why) => problem.show(why));
  const welcome = h(
    "div",
    { class: "welcome" },
    h("div", { class: "drop", onclick: () => omnibox.choose() }, icon("picture"), h("p", { class: "large" }, h("span", { class: "by-mouse" }, words.begin.drop), h("span", { class: "by-finger" }, words.begin.choose)),
      h("p", { class: "faint by-mouse" }, words.begin.or(h("kbd", {}, "/"), h("kbd", {}, "?")))),
    samples.element,
  );
  const query = createQuery({ searchWith: (part) => upload([part]), change: (parts) => go("search", address(parts)), go });
  const filters = createFilters(refine);
  const aside = h("aside", { class: "beside", "aria-label": words.search.beside }, query.element, filters.element);

  const by = select((value) => refine({ by: value === session.info.promoted ? null : value }));
  const sides = [0, 1].map((side) => select((value) => refine({ compare: state.compare.map((one, index) => (index === side ? value : one)) })));
  const alone = field(words.search.by, by);
  const beside = [field(words.search.compare, sides[0]), field(words.search.and, sides[1])];
  const lists = new Choice(words.search.lists, [["one", words.search.one_list], ["two", words.search.two_lists]], async (which) => refine({ compare: which === "two" ? (state.compare ?? (await pair())) : null }));
  const vectors = new Choice(words.search.vectors, [["searched", words.search.as_stored], ["own", words.search.own]], (which) => refine({ own: which === "own" ? "1" : null }));
  const fit = h("button", { type: "button", class: "quiet", "aria-pressed": String(fitted()), title: words.search.whole_or_cropped, onclick: () => fit.setAttribute("aria-pressed", String(turnFit())) }, icon("fit"), h("span", { class: "unseen" }, words.search.whole));
  const bar = h("div", { class: "bar" }, h("div", { class: "by" }, alone, beside), h("div", { class: "by" }, fit, vectors.element, lists.element));
  const answers = h("div", { class: "answers-of", "aria-busy": "false" });
  const results = h("section", { class: "results", "aria-label": words.search.results }, bar, answers);
  const body = h("div", { class: "search-body", hidden: true }, aside, results);
  const element = h("div", { class: "search" }, h("h1", { class: "unseen" }, words.search.title), omnibox.element, problem.element, welcome, body);

  // From a query to its address, and from the address to the answers

  function address(changes) {
    const { compare, own, ...rest } = { ...state, ...changes };
    return { ...rest, compare: compare?.join("~"), own: compare ? own : null };
  }

  /** Another query, by the same filters. */
  function start(what) {
    return go("search", address({ item: null, text: null, upload: [], more: [], less: [], ...what }));
  }

  function refine(changes) {
    return go("search", address(changes), { replace: true });
  }

  function show(parameters) {
    state = read(parameters);
    const asks = Boolean(state.item || state.text || state.upload.length);
    welcome.hidden = asks;
    body.hidden = !asks;
    filters.draw(state);
    if (asks) return search();
    asked.abort();
    shown = "";
    query.forget();
    omnibox.show(null);
    return samples.draw();
  }

  function upload(pictures) {
    problem.clear();
    start({ upload: pictures.map(remember) });
  }

  async function search() {
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    problem.clear();
    query.draw(state);
    drawBar();
    const pictures = state.upload.map(remembered);
    if (pictures.some((one) => !one)) {
      beginAgain();
      problem.show(words.search.not_kept);
      return;
    }
    // What was typed stays; of a picture that was pressed nobody wants to read the id.
    omnibox.show(state.item ?? state.text);
    answers.setAttribute("aria-busy", "true");
    const asking = askedFor(state);
    if (asking !== shown) {
      pressed = answers.contains(document.activeElement);
      if (shown) window.scrollTo(0, 0);
      answers.replaceChildren(skeleton());
      marks = new Marks({ item: state.item, picture: pictures[0]?.picture });
    }
    shown = asking;
    const known = marks.load().catch(() => {});
    const found = await Promise.allSettled((state.compare ?? [state.by]).map((one) => answerOf(one, pictures, signal)));
    await known;
    if (signal.aborted) return;
    answers.setAttribute("aria-busy", "false");
    draw(found);
    if (pressed) answers.querySelector(".search-with")?.focus();
    pressed = false;
  }

  /** What comes before a query, where there is none: no frame stays empty. */
  function beginAgain() {
    answers.replaceChildren();
    shown = "";
    body.hidden = true;
    welcome.hidden = false;
    samples.draw();
  }

  /** What a generation finds; beside another one, where it may not search what is stored, in vectors of its own. */
  async function answerOf(generation, pictures, signal) {
    if (!state.compare) return searchBy(generation, pictures, signal);
    try {
      return await searchBy(generation, pictures, signal, state.own ? "own" : "searched");
    } catch (error) {
      if (state.own || error.code !== "refused") throw error;
      return searchBy(generation, pictures, signal, "own");
    }
  }

  async function searchBy(generation, pictures, signal, vectors = "searched") {
    // Left to choose, the server takes the stored vector, of whatever generation it is. What answers is to be what the
    // page says that it is, where there is a picture from which it can answer.
    if (!generation && (pictures.length || state.text || (await itemOf(state.item).catch(() => null))?.thumbnail)) generation = session.info.promoted;
    const options = optionsOf(state);
    if (generation) options.generation = generation;
    if (vectors !== "searched") options.vectors = vectors;
    for (const kind of ["more", "less"]) if (state[kind].length) options[kind] = state[kind];
    if (state.text) return ask("POST", "search", { json: { text: state.text, ...options }, signal });
    if (!pictures.length) return ask("POST", "search", { json: { item: state.item, ...options }, signal });
    const form = new FormData();
    for (const { picture } of pictures) form.append("image", picture, picture.name || "pasted.png");
    for (const [name, value] of Object.entries(options))
      for (const one of [value].flat()) form.append(name, typeof one === "object" ? JSON.stringify(one) : one);
    return ask("POST", "search/image", { form, signal });
  }

  // Drawing

  function draw(found) {
    last = found;
    const [first] = found;
    filters.drawMinimum(found.filter((one) => one.status === "fulfilled").map((one) => one.value));
    if (state.compare) {
      const { element: pair, summary } = compared(state.compare, found, (side, list = found[side].value.results) => acts(list));
      answers.replaceChildren(pair);
      if (summary) announce(summary);
    } else if (first.status === "rejected") {
      answers.replaceChildren();
      const name = remembered(state.upload[0])?.picture.name;
      problem.show(name ? words.search.failed(name, first.reason.message) : first.reason);
      // Another generation might answer where this one is refused; without a query there is nothing to show.
      if (first.reason.code !== "refused") beginAgain();
    } else drawAnswer(first.value);
  }

  function drawAnswer(answer) {
    by.value = answer.generation;
    const some = answer.results.length > 0;
    answers.replaceChildren(
      ...presence(answer),
      h("p", { class: "said" }, said(answer)),
      some ? grid(answer.results, acts(answer.results)) : h("p", { class: "empty" }, narrows(state) ? words.search.nothing_by_filters : words.search.nothing_to_find),
      some ? further(answer.results) : "",
    );
    announce(words.search.found(answer.results.length, answer.generation));
  }

  /** Whether anything like the query is there at all, where a check has measured what to expect. */
  function presence({ present, results: found }) {
    if (present === null || !found.length) return [];
    const share = percent(present, present < 0.1 || present > 0.99 ? 1 : 0);
    return present < ABSENT
      ? [h("p", { class: "warning absent" }, h("strong", {}, words.search.absent), words.search.absent_share(share))]
      : [];
  }

  /** More of them, and all of them as a file. */
  function further(found) {
    const told = h("span", { class: "faint", role: "status" });
    const most = session.info.limits?.k ?? found.length;
    const k = optionsOf(state).k;
    const next = Math.min(most, 2 * k);
    const button = (text, act) => h("button", { type: "button", onclick: act }, text);
    return h("div", { class: "further" },
      found.length === k && next > k ? button(words.common.show_more, () => refine({ k: next })) : "",
      h("div", { class: "buttons start" }, h("span", { class: "faint" }, words.search.save),
        button("CSV", () => save(csv(found), "results.csv", "text/csv")),
        button("JSON", () => save(json(found), "results.json", "application/json")),
        button(words.search.zip, async () => save(await zip(found, (done) => (told.textContent = words.search.saved(done, found.length))), "results.zip", "application/zip")),
        told));
  }

  /** What a press does in a list of results. */
  const acts = (list) => ({
    search: (item) => start({ item: item.id }),
    about: (place) => showItem(list[place].item, { go, measure: measureOf(list[place]), beside: list.map((one) => ({ item: one.item, measure: measureOf(one) })), place }),
    like: (item, kind) => go("search", address({ more: state.more.filter((id) => id !== item.id), less: state.less.filter((id) => id !== item.id), [kind]: [...state[kind], item.id] })),
    marks: can("write") && !state.text && marks,
    refuse: (error) => problem.show(error),
  });

  function drawBar() {
    const { promoted } = session.info;
    const options = session.generations.map(({ name }) => [name, name === promoted ? words.common.who_answers(name) : name]);
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

  receive(element, () => element.isConnected && !document.querySelector("dialog[open]"), omnibox.take);
  narrow.addEventListener("change", () => element.isConnected && state.compare && !body.hidden && draw(last));
  onChange((values) => {
    if (!element.isConnected) return;
    if (values.status || values.info || values.labels || values.metadata) filters.draw(state);
    // Another generation answers: what is shown was another's answer.
    if (values.generations && !body.hidden) search();
    if (values.status && body.hidden) samples.draw();
  });

  return { title: words.search.title, element, show, focus: () => omnibox.focus() };
}

/** The state of a search, as its address says. */
function read(parameters) {
  const compare = parameters.get("compare")?.split("~");
  return {
    item: parameters.get("item"), text: parameters.get("text"), upload: parameters.getAll("upload"), more: parameters.getAll("more"), less: parameters.getAll("less"),
    by: parameters.get("by"), compare: compare?.length === 2 ? compare : null, own: parameters.get("own"),
    label: parameters.getAll("label"), meta: parameters.getAll("meta").filter(isPair), within: parameters.getAll("within"),
    min: Number(parameters.get("min")) || null, k: parameters.get("k"),
  };
}

function isPair(text) {
  try {
    return JSON.parse(text).length === 2;
  } catch {
    return false;
  }
}
