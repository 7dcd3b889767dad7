// The gallery: where its items stand, the refresh, the items themselves.

import { ask } from "./api.js";
import { createBrowser } from "./browser.js";
import { generation, h, Notice, prose, table, told } from "./dom.js";
import { createDuplicates } from "./duplicates.js";
import { count, decimal, moment } from "./figures.js";
import { createRefresh } from "./refreshing.js";
import { onChange, session } from "./session.js";
import { words } from "./words.js";

/** In the order in which they are drawn. */
const STATES = ["current", "compatible", "needs refresh", "image missing", "failed"];

const PROBLEMS = 50;

export function createGallery(go) {
  const head = h("div", { class: "head" });
  const states = h("section", { class: "states", "aria-label": words.gallery.states_title });
  const refresh = createRefresh();
  const problem = new Notice();
  const problems = h("section", { "aria-labelledby": "problems-title", hidden: true });
  const browser = createBrowser(go);
  const duplicates = createDuplicates(go);
  const history = h("details", { class: "history", ontoggle: () => history.open && drawHistory() }, h("summary", {}, words.gallery.history), h("div"));
  const element = h("div", { class: "gallery" }, head, states, refresh.element, problem.element, problems, browser.element, duplicates.element, history);
  let known = "";

  function show(parameters) {
    drawStates();
    refresh.show(parameters.get("refresh"));
    browser.show(parameters);
    drawProblems();
    duplicates.draw();
    if (history.open) drawHistory();
  }

  function drawStates() {
    const { items, states: counts, by_generation: spaces } = session.status;
    const total = Math.max(1, items);
    head.replaceChildren(h("div", {}, h("h1", {}, words.gallery.title), h("p", { class: "faint" }, words.common.items(items),
      ...Object.entries(spaces ?? {}).flatMap(([name, number], index) => [index ? ", " : ": ", words.gallery.vectors_of(number, generation(name))]))));
    const there = STATES.filter((state) => counts?.[state]);
    states.hidden = items === 0;
    refresh.element.hidden = items === 0 && !session.status.refresh && session.job?.state !== "running";
    duplicates.element.hidden = items < 2;
    states.replaceChildren(
      h("div", { class: "share", "aria-hidden": "true" }, there.map((state) => h("div", { class: `state-${state.replace(" ", "-")}`, style: { "flex-grow": counts[state] / total } }))),
      h("dl", {}, there.map((state) =>
        h("div", {},
          h("dt", {}, h("span", { class: `dot state-${state.replace(" ", "-")}`, "aria-hidden": "true" }), words.gallery.states[state]),
          h("dd", {}, h("strong", {}, count(counts?.[state] ?? 0)), h("span", { class: "faint" }, words.gallery.meanings[state]))))),
    );
  }

  async function drawProblems() {
    const { states: counts } = session.status;
    const key = JSON.stringify([counts?.["image missing"], counts?.failed]);
    if (key === known) return;
    known = key;
    const rows = h("tbody");
    const more = h("button", { type: "button", hidden: true, onclick: () => page(more.dataset.after) }, words.common.show_more);
    const page = async (after) => {
      try {
        const found = await ask("GET", "problems", { query: { after, limit: PROBLEMS } });
        problem.clear();
        problems.hidden = !after && !found.problems.length;
        rows.append(...found.problems.map(({ id, state, reason }) => h("tr", {}, h("th", { scope: "row", class: "id" }, id), h("td", {}, words.gallery.states[state] ?? state), h("td", { class: "words" }, prose(reason)))));
        more.hidden = !found.next;
        more.dataset.after = found.next ?? "";
      } catch (error) {
        problem.show(error);
      }
    };
    await page(null);
    const frame = table(words.gallery.problems, words.gallery.problem_columns, [], "left stacked");
    frame.querySelector("tbody").replaceWith(rows);
    problems.replaceChildren(h("h2", { id: "problems-title" }, words.gallery.problems), h("p", { class: "faint" }, words.gallery.problems_hint), frame, more);
  }

  async function drawHistory() {
    try {
      const { log } = await ask("GET", "log", { query: { limit: 100 } });
      history.lastElementChild.replaceChildren(
        log.length === 0 ? h("p", { class: "empty" }, words.gallery.nothing_done) : table(words.gallery.history, words.gallery.history_columns, log.map(({ time, operation, who, generation: name, ...rest }) =>
          h("tr", {}, h("th", { scope: "row" }, moment(time)), h("td", {}, operation, " ", name && generation(name)), h("td", {}, who ?? "–"), h("td", { class: "words" }, figures(rest)))), "left dense stacked"),
      );
    } catch (error) {
      history.lastElementChild.replaceChildren(h("div", { class: "problem", role: "alert" }, told(error.message)));
    }
  }

  onChange((values) => {
    if (!element.isConnected) return;
    if (values.status) {
      drawStates();
      drawProblems();
    }
    refresh.changed(values);
    duplicates.changed(values);
    browser.changed(values);
  });

  return { title: words.gallery.title, element, show };
}

/** An entry of the log in a line; the conditions of a check are with its generation, and hashes are told apart by their beginning. */
const figures = ({ conditions, ...entry }) =>
  Object.entries(entry)
    .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length) && typeof value !== "boolean")
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${written(value)}`)
    .join("; ");

function written(value) {
  if (typeof value === "number") return decimal(value, Number.isInteger(value) ? 0 : 2);
  if (typeof value === "object") return Object.values(value).map(written).join(", ");
  return /^[0-9a-f]{32,}$/.test(value) ? value.slice(0, 12) : prose(value).replace(/\.$/, "");
}
