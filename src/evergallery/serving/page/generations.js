// Generations: where each comes from, how they get on with each other, which of them answers.

import { ask } from "./api.js";
import { question } from "./dialog.js";
import { announce, capital, Choice, count, counted, field, generation, h, moment, Notice, percent, prose, table } from "./dom.js";
import { lineage } from "./lineage.js";
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
  let group = "all";
  let matrix = null;
  let drawn = 0;
  const problem = new Notice();
  const head = h("div", { class: "head" });
  const graph = h("div");
  const card = h("section", { class: "panel", "aria-label": "The chosen generation" });
  const heat = h("section", { "aria-labelledby": "matrix-title" });
  const groups = new Choice("Classes", [["all", "All classes"], ["old", "Old"], ["new", "New"]], (value) => { group = value; drawMatrix(); });
  const element = h("div", { class: "generations" }, head, problem.element, graph, card, heat);

  function show(parameters) {
    chosen = parameters.get("name") ?? session.info.promoted ?? session.generations.at(-1)?.name ?? null;
    draw();
  }

  async function draw() {
    drawHead();
    if (!session.generations.length) {
      graph.replaceChildren(h("p", { class: "empty" }, ...prose("Nothing has been learned yet. Next:  evergallery learn IMAGES").flat()));
      card.hidden = heat.hidden = true;
      return;
    }
    card.hidden = heat.hidden = false;
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
    else {
      matrix = cells.value;
      drawMatrix();
    }
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
      ...drawGate(one, gate),
    );
  }

  function drawGate(one, gate) {
    if (one.promoted) return [];
    if (gate.status === "rejected") {
      const notice = new Notice();
      notice.show(gate.reason);
      return [h("h3", {}, "The gate"), notice.element, promoteButton(one, null)];
    }
    const { verdict, reason, passed, conditions, judged } = gate.value;
    const spaces = new Set(conditions.map(({ space }) => space)).size > 1;
    return [
      h("h3", {}, "The gate"),
      h("p", { class: "verdict" }, h("strong", { class: passed ? "met" : passed === false ? "unmet" : "" }, capital(verdict ?? (passed === null ? "not measured" : passed ? "open" : "closed"))), ". ", ...prose(capital(reason)).flat()),
      conditions.length ? h("p", { class: "faint" }, ...prose(`Judged: ${judged}.`).flat()) : "",
      conditions.length ? table("Conditions of the gate", ["condition", ...(spaces ? ["against"] : []), "result", "measured", "required"], conditions.map((condition) =>
        h("tr", {}, h("th", { scope: "row" }, condition.name), spaces && h("td", {}, generation(condition.space)),
          h("td", { class: condition.passed ? "met" : condition.passed === false ? "unmet" : "" }, condition.passed ? "met" : condition.passed === false ? "not met" : "not measured"),
          h("td", {}, written(condition.value)), h("td", {}, written(condition.limit)))), "left") : "",
      promoteButton(one, gate.value),
    ];
  }

  const written = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? String(Math.round(1000 * value) / 1000) : String(value).replaceAll(" %", "\u00a0%"));

  function promoteButton(one, gate) {
    const reason = missing("admin", "promoting");
    return h("div", { class: "buttons start" },
      h("button", { type: "button", class: gate?.passed ? "primary" : "", disabled: reason !== null, "aria-describedby": reason ? "promote-reason" : null, onclick: () => promote(one, gate) }, `Promote ${one.name}…`),
      h("button", { type: "button", disabled: reason !== null || session.job?.state === "running", onclick: () => check(one) }, "Check on the stored items"),
      reason && h("p", { class: "faint", id: "promote-reason" }, reason));
  }

  async function check(one) {
    problem.clear();
    try {
      change({ job: await ask("POST", "check", { json: { generation: one.name } }) });
      announce(`${one.name} is measured on the stored items that have a label.`);
    } catch (error) {
      problem.show(error);
    }
  }

  async function promote(one, gate) {
    const open = gate?.passed === true;
    const why = h("textarea", { rows: "3", required: true });
    const against = h("input", { type: "checkbox", onchange: () => { reasons.hidden = !against.checked; if (against.checked) why.focus(); } });
    const reasons = h("div", { hidden: true }, field("Reason", why, "Kept in the log, with the figures, for ever."));
    let told = "";
    const failed = gate?.conditions.filter(({ passed }) => passed === false) ?? [];
    const done = await question(
      `Promote ${one.name}?`,
      [
        h("p", {}, ...prose(gate?.would_change ?? `${one.name} would answer queries in place of ${session.info.promoted}.`).flat()),
        !open && h("div", { class: "warning" },
          h("p", {}, h("strong", {}, "The gate is not passed. "), ...(failed.length ? [] : prose(gate?.reason ?? "").flat())),
          failed.length > 0 && h("ul", {}, failed.map(({ sentence }) => h("li", {}, ...prose(sentence).flat()))),
          h("label", { class: "check" }, against, "Promote it all the same"), reasons),
        open && h("p", { class: "faint" }, "You can go back at any time: the vectors stay as they are."),
      ],
      {
        confirm: `Promote ${one.name}`, danger: !open,
        ready: () => open || (against.checked && why.value.trim() !== ""),
        run: async () => {
          const { changed, sentence, judged, refused, conditions, ...status } = await ask("POST", "promote", { json: { generation: one.name, force: !open, why: open ? null : why.value.trim() } });
          told = sentence;
          await settle(status);
        },
      },
    );
    if (done) announce(told);
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

  // The matrix

  function drawMatrix() {
    const { generations: names, cells, protocol, metric } = matrix;
    const kinds = new Set(cells.map(({ classes }) => classes));
    if (!kinds.has(group)) group = kinds.has("all") ? "all" : [...kinds][0] ?? "all";
    groups.set(group);
    for (const [key, button] of groups.buttons) button.hidden = !kinds.has(key);
    const of = new Map(cells.filter(({ classes, value }) => classes === group && value !== null).map((cell) => [`${cell.query} ${cell.gallery}`, cell]));
    const values = [...of.values()].map(({ value }) => value);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const heatOf = (value) => (most > least ? (value - least) / (most - least) : 0.6);
    const rows = names.map((query) =>
      h("tr", {}, h("th", { scope: "row" }, generation(query)), names.map((gallery) => {
        const cell = of.get(`${query} ${gallery}`);
        if (!cell) return h("td", { class: "none" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "unseen" }, "not measured"));
        return h("td", { class: query === gallery ? "self" : "", style: { "--heat": heatOf(cell.value) }, title: cell.queries ? `${counted(cell.queries, "query", "queries")}` : null },
          h("strong", {}, (100 * cell.value).toFixed(1)),
          cell.low !== null && cell.low !== undefined && h("span", {}, `${(100 * cell.low).toFixed(1)}–${(100 * cell.high).toFixed(1)}`));
      })));
    const focused = groups.element.contains(document.activeElement) && document.activeElement;
    heat.replaceChildren(
      h("div", { class: "head" }, h("h2", { id: "matrix-title" }, "Compatibility matrix"), kinds.size > 1 ? groups.element : ""),
      values.length
        ? table("Figures of the matrix", ["queries of", ...names.map((name) => `in ${name}`)], rows, "heat")
        : h("p", { class: "empty" }, ...prose("Nothing was measured yet. Next:  evergallery check v2 --data HELD_OUT").flat()),
      values.length ? h("p", { class: "faint" }, `${capital(metric)} in %, with its interval: queries of a row’s generation in the vectors of a column’s. Framed: a generation in vectors of its own. The stronger the colour, the higher, from ${percent(least, 1)} to ${percent(most, 1)}.`) : "",
      protocol ? h("p", { class: "faint" }, ...prose(capital(protocol)).flat()) : "",
    );
    if (focused) focused.focus();
  }

  onChange((values) => {
    if (!element.isConnected) return;
    if (values.generations || (values.job?.kind === "check" && values.job.state !== "running")) {
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

