// Generations: where each comes from, how they get on with each other, which of them answers.

import { ask } from "./api.js";
import { question } from "./dialog.js";
import { announce, generation, h, Notice, prose, redraw, told } from "./dom.js";
import { count, moment } from "./figures.js";
import { gateOf } from "./gate.js";
import { lineage } from "./lineage.js";
import { createMatrix } from "./matrix.js";
import { createProgress } from "./progress.js";
import { change, missing, onChange, reloadGenerations, session } from "./session.js";
import { words } from "./words.js";

export function createGenerations(go) {
  let chosen = null;
  let seen = session.job?.state === "running" ? null : session.job?.id;
  let drawn = 0;
  const problem = new Notice();
  const head = h("div", { class: "head" });
  const graph = h("div");
  const card = h("section", { class: "panel", "aria-label": words.generations.chosen });
  const matrix = createMatrix();
  const progress = createProgress(({ kind }, active) => active || ["check", "adapt", "matrix"].includes(kind));
  const element = h("div", { class: "generations" }, head, problem.element, graph, progress.element, card, matrix.element);

  function show(parameters) {
    chosen = parameters.get("name") ?? session.info.promoted ?? session.generations.at(-1)?.name ?? null;
    draw();
  }

  async function draw() {
    drawHead();
    progress.draw();
    if (!session.generations.length) {
      graph.replaceChildren(h("div", { class: "empty" }, told(words.generations.empty)));
      card.hidden = matrix.element.hidden = true;
      return;
    }
    card.hidden = matrix.element.hidden = false;
    drawGraph();
    const turn = ++drawn;
    problem.clear();
    const [one, gate, cells] = await Promise.allSettled([
      ask("GET", `generations/${encodeURIComponent(chosen)}`),
      ask("GET", `gate/${encodeURIComponent(chosen)}`),
      ask("GET", "matrix"),
    ]);
    if (turn !== drawn) return;
    if (one.status === "rejected") {
      card.hidden = true;
      problem.show(one.reason);
    } else drawCard(one.value, gate);
    if (cells.status === "rejected") problem.show(cells.reason);
    else matrix.draw(cells.value);
  }

  function drawHead() {
    const { promoted } = session.info;
    const back = session.status.can_roll_back_to;
    const reason = missing("admin", words.generations.rolling_back);
    const button = back && h("button", { type: "button", disabled: reason !== null, title: reason, onclick: rollback }, words.generations.back(back));
    redraw(
      head,
      h("div", {}, h("h1", {}, words.generations.title),
        h("p", { class: "faint" }, promoted ? words.generations.number(session.generations.length, generation(promoted)) : words.generations.none_answers),
        session.status.answer && h("p", { class: "faint" }, words.generations.way(session.status.answer)),
        session.status.shadow && h("p", { class: "faint" }, words.generations.shadowed(session.status.shadow)),
        session.status.canary && h("p", { class: session.status.canary.refused ? "warning" : "faint" }, words.generations.canaried(session.status.canary)),
        Object.keys(session.status.drift?.alarms ?? {}).length > 0 && h("p", { class: "warning" }, words.generations.drifted(session.status.drift.generation, Object.entries(session.status.drift.alarms).map(([what, when]) => [what, moment(when)]))),
        session.status.forced && h("p", { class: "warning" }, prose(words.generations.forced(promoted, session.status.forced)))),
      button || "",
    );
  }

  function drawGraph() {
    const focused = graph.contains(document.activeElement) && document.activeElement.getAttribute("href");
    graph.replaceChildren(lineage(session.generations, chosen));
    if (focused) graph.querySelector(`a[href="${CSS.escape(focused).replaceAll("\\/", "/")}"]`)?.focus();
    const node = graph.querySelector("[aria-current]");
    const region = graph.firstElementChild;
    if (node && region) region.scrollLeft = node.parentElement.offsetLeft - region.clientWidth / 2 + node.offsetWidth / 2;
  }

  // One generation

  function drawCard(one, gate) {
    const origin = one.kind === "trained" ? (one.parent ? words.generations.learned_from(one.parent, one.method) : words.generations.learned_first(one.method)) : words.generations.kinds[one.kind];
    const facts = [
      [words.generations.network, one.backbone ?? "–"],
      [words.generations.dimension, count(one.dimension)],
      [words.generations.classes, one.classes ? words.generations.of_classes(one.classes, one.new_classes === one.classes ? 0 : one.new_classes) : words.common.none],
      [words.generations.stored, count(one.items)],
      [words.generations.made, moment(one.created)],
      [words.generations.fingerprint, h("span", { class: "id", title: one.fingerprint }, one.fingerprint.slice(0, 12))],
    ];
    const names = one.class_names;
    card.replaceChildren(
      h("div", { class: "head" }, h("div", {}, h("h2", {}, generation(one.name), one.promoted && h("span", { class: "badge" }, words.common.answers_queries)), h("p", { class: "faint" }, origin))),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      names.length ? h("details", {}, h("summary", {}, words.generations.knows(names.length)), h("ul", { class: "chips" }, names.map((name) => h("li", { class: "chip" }, name)))) : "",
      h("details", {}, h("summary", {}, words.generations.card(one.name)), h("dl", { class: "card" }, flat(one.card).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      ...gateOf(one, gate, { go, promoted }),
    );
  }

  async function promoted({ changed, sentence, judged, refused, conditions, scores, ...status }) {
    await settle(status);
    announce(prose(sentence));
  }

  async function rollback() {
    const { can_roll_back_to: name, would_roll_back: sentence } = session.status;
    const done = await question(words.generations.back_question(name), [h("p", {}, prose(sentence ?? words.generations.would_answer(name)))], {
      confirm: words.generations.back(name),
      run: async () => settle(await ask("POST", "rollback", { json: {} })),
    });
    if (done) announce(words.generations.answers_again(name));
  }

  async function settle(status) {
    change({ status });
    await reloadGenerations();
    go("generations", { name: session.info.promoted });
    window.scrollTo(0, 0);
  }

  onChange((values) => {
    if (!element.isConnected) return;
    if (values.job) progress.draw();
    const ended = values.job && values.job.state !== "running" && values.job.id !== seen;
    if (ended) seen = values.job.id;
    if (values.generations || ended) {
      draw();
      if (values.job?.error) announce(values.job.error);
    } else if (values.status || values.me) drawHead();
  });

  return { title: words.generations.title, element, show };
}

/** A nested card as names with dots and their values. */
function flat(card, prefix = "") {
  return Object.entries(card ?? {}).flatMap(([name, value]) => {
    if (value === null || (Array.isArray(value) && !value.length)) return [];
    if (typeof value === "object" && !Array.isArray(value)) return flat(value, `${prefix}${name}.`);
    const text = Array.isArray(value) ? (value.length > 12 ? `${value.slice(0, 12).join(", ")} ${words.common.and_more(value.length - 12)}` : value.join(", ")) : String(value);
    return [[`${prefix}${name}`.replaceAll("_", " "), text]];
  });
}

