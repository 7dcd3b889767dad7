// Generations: where each comes from, how they get on with each other, which of them answers.

import { ask } from "./api.js";
import { question } from "./dialog.js";
import { announce, count, counted, generation, h, moment, Notice, percent, prose, withoutCommands } from "./dom.js";
import { gateOf } from "./gate.js";
import { lineage } from "./lineage.js";
import { createMatrix } from "./matrix.js";
import { createProgress } from "./progress.js";
import { change, missing, onChange, reloadGenerations, session } from "./session.js";

function shadowed(one) {
  const where = `${one.generation} answers ${percent(one.sample)} of the searches by picture in the shadow (${one.way})`;
  if (one.problem && !one.compared) return `${where}, and fails: ${one.problem}`;
  if (!one.compared) return `${where}; none has been compared yet.`;
  return `${where}: ${count(one.compared)} compared, ${percent(one.overlap)} of the results in common, the same first one for ${percent(one.same_first)}, ${Math.round(one.milliseconds)} ms.`;
}

function canaried(one) {
  const who = `${one.generation} is the canary of ${percent(one.share)} of the clients, known by their ${one.by === "client" ? "token or address" : one.by}`;
  if (!one.answering) return `${who}; it answers nobody${one.refused ? `: ${one.refused}` : "."}`;
  return `${who}: ${counted(one.answered, "answer")}.${one.refused ? ` The gate refuses it (${one.refused}); the reason was: ${one.why}` : ""}`;
}

function drifted(one) {
  const since = Object.entries(one.alarms).map(([what, when]) => `${what === "score" ? "scores of first results" : "pictures"} since ${moment(when)}`);
  return `Queries are no longer those that ${one.generation} began with: ${since.join(", ")}.`;
}

export function createGenerations(go) {
  let chosen = null;
  let seen = session.job?.state === "running" ? null : session.job?.id;
  let drawn = 0;
  const problem = new Notice();
  const head = h("div", { class: "head" });
  const graph = h("div");
  const card = h("section", { class: "panel", "aria-label": "The chosen generation" });
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
      graph.replaceChildren(h("p", { class: "empty" }, ...prose("Nothing has been learned yet. Next:  evergallery learn IMAGES").flat()));
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
    const reason = missing("admin", "rolling back");
    const button = back && h("button", { type: "button", disabled: reason !== null, title: reason, onclick: rollback }, `Back to ${back}`);
    head.replaceChildren(
      h("div", {}, h("h1", {}, "Generations"),
        h("p", { class: "faint" }, promoted ? [`${counted(session.generations.length, "generation")}; `, generation(promoted), " answers queries."] : "None answers queries yet."),
        session.status.answer && h("p", { class: "faint" }, `Way of answering: ${session.status.answer}.`),
        session.status.shadow && h("p", { class: "faint" }, shadowed(session.status.shadow)),
        session.status.canary && h("p", { class: session.status.canary.refused ? "warning" : "faint" }, canaried(session.status.canary)),
        Object.keys(session.status.drift?.alarms ?? {}).length > 0 && h("p", { class: "warning" }, drifted(session.status.drift)),
        session.status.forced && h("p", { class: "warning" }, ...prose(`${promoted} was promoted against the gate: ${session.status.forced}`).flat())),
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
    const origin = one.kind === "trained" ? (one.parent ? `learned from ${one.parent} by ${one.method}` : `learned first, by ${one.method}`) : { vectors: "vectors made elsewhere, without a model", callable: "a registered function", onnx: "a registered ONNX file", model: "a registered model" }[one.kind];
    const facts = [
      ["Network", one.backbone ?? "–"],
      ["Dimension", count(one.dimension)],
      ["Classes", one.classes ? `${count(one.classes)}${one.new_classes && one.new_classes !== one.classes ? `, ${count(one.new_classes)} of them new` : ""}` : "none"],
      ["Vectors stored", count(one.items)],
      ["Made", moment(one.created)],
      ["Fingerprint", h("span", { class: "id", title: one.fingerprint }, one.fingerprint.slice(0, 12))],
    ];
    const names = one.class_names;
    card.replaceChildren(
      h("div", { class: "head" }, h("div", {}, h("h2", {}, generation(one.name), one.promoted && h("span", { class: "badge" }, "answers queries")), h("p", { class: "faint" }, origin))),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      names.length ? h("details", {}, h("summary", {}, `The ${counted(names.length, "class", "classes")} it knows`), h("ul", { class: "chips" }, names.map((name) => h("li", { class: "chip" }, name)))) : "",
      h("details", {}, h("summary", {}, `Card of ${one.name}`), h("dl", { class: "card" }, flat(one.card).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      ...gateOf(one, gate, { go, promoted }),
    );
  }

  async function promoted({ changed, sentence, judged, refused, conditions, scores, ...status }) {
    await settle(status);
    announce(withoutCommands(sentence));
  }

  async function rollback() {
    const { can_roll_back_to: name, would_roll_back: sentence } = session.status;
    const done = await question(`Go back to ${name}?`, [h("p", {}, ...prose(sentence ?? `${name} would answer queries again.`).flat())], {
      confirm: `Back to ${name}`,
      run: async () => settle(await ask("POST", "rollback", { json: {} })),
    });
    if (done) announce(`${name} answers queries again.`);
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

  return { title: "Generations", element, show };
}

/** A nested card as names with dots and their values. */
function flat(card, prefix = "") {
  return Object.entries(card ?? {}).flatMap(([name, value]) => {
    if (value === null || (Array.isArray(value) && !value.length)) return [];
    if (typeof value === "object" && !Array.isArray(value)) return flat(value, `${prefix}${name}.`);
    const text = Array.isArray(value) ? (value.length > 12 ? `${value.slice(0, 12).join(", ")} and ${value.length - 12} more` : value.join(", ")) : String(value);
    return [[`${prefix}${name}`.replaceAll("_", " "), text]];
  });
}

