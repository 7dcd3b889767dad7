// New vectors for stored items: what they would cost and give, starting, watching, keeping or giving up.

import { ask } from "./api.js";
import { recallCurve } from "./chart.js";
import { question } from "./dialog.js";
import { field, generation, h, Notice, offer, redraw, select } from "./dom.js";
import { bytes, count, percent } from "./figures.js";
import { createProgress } from "./progress.js";
import { waysTable } from "./promoting.js";
import { change, missing, onChange, reloadGenerations, session } from "./session.js";
import { words } from "./words.js";

/** Until a plan has told of which orders anything is known. */
const ORDERS = ["random"];
const SHARES = [...[0.1, 0.25, 0.5, 0.75].map((share) => [String(share), percent(share)]), ["1", words.refreshing.all]];

export function createRefresh() {
  const problem = new Notice();
  const progress = createProgress(({ kind, error }, active) => kind !== "duplicates" && (active || kind === "refresh" || (Boolean(error) && ["plan", "commit", "discard"].includes(kind))));
  const opened = h("div", { hidden: true });
  const planned = h("div");
  let plan = null;

  const target = select(() => draw());
  const order = select(() => drawPlan());
  const share = select();
  const budget = h("input", { type: "number", min: "1", placeholder: words.common.none, inputmode: "numeric" });
  const rate = h("input", { type: "number", min: "1", placeholder: words.common.none, inputmode: "numeric" });
  const until = h("input", { type: "number", min: "1", max: "100", step: "any", placeholder: words.common.none, inputmode: "decimal" });
  const adapter = h("input", { type: "text", placeholder: words.common.none, autocomplete: "off", spellcheck: "false" });
  const planButton = h("button", { type: "submit", class: "primary", onclick: (event) => { event.preventDefault(); work("plan", { generation: target.value, adapter: adapter.value.trim() || null }); } }, words.refreshing.plan);
  const startButton = h("button", { type: "button", onclick: () => start() }, words.refreshing.start);
  const reason = h("p", { class: "faint", id: "refresh-reason" });
  const form = h(
    "form",
    { class: "refresh-form", onsubmit: (event) => event.preventDefault() },
    h("div", { class: "fields" }, field(words.refreshing.for, target), field(words.refreshing.order, order), field(words.refreshing.share, share)),
    h("details", {}, h("summary", {}, words.refreshing.limits),
      h("div", { class: "fields" },
        field(words.refreshing.minutes, budget), field(words.refreshing.rate, rate), field(words.refreshing.until, until),
        field(words.refreshing.adapter, adapter, words.refreshing.adapter_hint))),
    h("div", { class: "buttons start" }, planButton, startButton, reason),
  );
  const element = h(
    "details",
    { class: "panel" },
    h("summary", {}, h("h2", {}, words.refreshing.title)),
    h("p", { class: "faint" }, words.refreshing.how),
    progress.element, opened, problem.element, form, planned,
  );

  /** What has been begun is looked at; what nobody has asked for leaves the room to the pictures. */
  function show(wanted) {
    if (wanted) target.value = wanted;
    element.open ||= Boolean(wanted || session.status.refresh || session.job?.state === "running");
    if (session.job?.kind === "plan" && session.job.result) plan = session.job;
    draw();
  }

  function changed(values) {
    if (values.job?.kind === "plan" && values.job.state === "done") plan = values.job;
    if (values.status?.refresh) element.open = true;
    if (values.job) progress.draw();
    if (values.status || values.job || values.generations || values.me) draw();
  }

  function draw() {
    const wanted = target.value || session.status.refresh?.generation || plan?.arguments.generation || due();
    offer(target, session.generations.filter(({ kind }) => kind !== "vectors").map(({ name }) => [name, name === session.info.promoted ? words.common.who_answers(name) : name]), wanted);
    const known = Object.keys(plan?.result?.orders ?? {});
    offer(order, (known.length ? known : ORDERS).map((name) => [name, words.refreshing.orders[name] ?? name]), order.value || "random");
    offer(share, SHARES, share.value || "1");
    const why = missing("admin", words.refreshing.refreshing);
    const busy = session.job?.state === "running";
    planButton.disabled = startButton.disabled = why !== null || busy || !target.value;
    const isPlanned = plan?.result && plan.arguments.generation === target.value;
    planButton.className = isPlanned ? "" : "primary";
    startButton.className = isPlanned ? "primary" : "";
    reason.textContent = why ?? "";
    form.hidden = Boolean(session.status.refresh) || busy;
    progress.draw();
    drawOpen();
    drawPlan();
  }

  /** The generation that answers, while the gallery is not wholly of it; else the newest that it is not wholly of. */
  function due() {
    const some = session.generations.filter(({ kind, items }) => kind !== "vectors" && items < session.status.items);
    return (some.find(({ name }) => name === session.info.promoted) ?? some.at(-1) ?? session.generations.at(-1))?.name ?? "";
  }

  function goOn() {
    const { generation: name, adapter } = session.status.refresh;
    return work("refresh", { generation: name, adapter, order: order.value || "random", fraction: 1 });
  }

  function drawOpen() {
    const { refresh } = session.status;
    const busy = session.job?.state === "running";
    opened.hidden = !refresh || busy;
    if (opened.hidden) return;
    const why = missing("admin", words.refreshing.this);
    const button = (text, onclick, kind = "") => h("button", { type: "button", class: kind, disabled: why !== null, title: why, onclick }, text);
    const all = refresh.refreshed + refresh.remaining;
    redraw(
      opened,
      h("p", {}, words.refreshing.open(generation(refresh.generation), h("strong", {}, words.common.of(refresh.refreshed, all)), all),
        refresh.shown ? words.refreshing.shown : words.refreshing.hidden(refresh.generation)),
      h("progress", { value: all ? refresh.refreshed / all : 1, max: "1", "aria-label": words.refreshing.progress }),
      refresh.remaining && refresh.seconds_left ? h("p", { class: "faint" }, words.refreshing.left(refresh.seconds_left)) : "",
      h("div", { class: "buttons start" },
        refresh.remaining ? button(words.refreshing.go_on, goOn, "primary") : "",
        refresh.shown ? button(words.refreshing.commit_asks, commit, refresh.remaining ? "" : "primary") : "",
        refresh.shown ? "" : h("button", { type: "button", class: refresh.remaining ? "" : "primary", onclick: () => { location.hash = `#/generations?name=${encodeURIComponent(refresh.generation)}`; } }, words.refreshing.to_gate(refresh.generation)),
        button(words.refreshing.discard_asks, discard), why && h("p", { class: "faint" }, missing("admin", words.refreshing.refreshing))),
    );
  }

  function drawPlan() {
    if (!plan?.result || plan.arguments.generation !== target.value || form.hidden) {
      planned.replaceChildren();
      return;
    }
    const { items, seconds, bytes: size, orders, best_order: best, options } = plan.result;
    const total = typeof items === "number" ? items : Object.values(items).reduce((sum, number) => sum + number, 0);
    const curves = Object.keys(orders ?? {}).length > 0;
    planned.replaceChildren(
      h("h3", {}, words.refreshing.plan_for(plan.arguments.generation)),
      h("dl", { class: "facts" }, [[words.refreshing.items, count(total)], [words.refreshing.time, words.common.duration(seconds)], [words.refreshing.disk, bytes(size)]].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      curves ? recallCurve(orders, order.value) : h("p", { class: "faint" }, words.refreshing.unmeasured),
      curves ? h("p", { class: "faint" }, gain(orders, best)) : "",
      options?.length ? h("details", {}, h("summary", {}, words.refreshing.ways), waysTable(options.map(({ outcome, ...one }) => ({ ...one, way: outcome.way, score: outcome.score, change: outcome.change.mean, low: outcome.change.low, high: outcome.change.high })))) : "",
    );
  }

  function gain(orders, best) {
    const [first, last] = [Object.values(orders)[0][0], Object.values(orders)[0].at(-1)];
    return words.refreshing.gain(percent(first.recall, 1), percent(last.recall, 1), best && (words.refreshing.orders[best] ?? best), Object.keys(orders).length);
  }

  async function work(path, json, method = "POST") {
    problem.clear();
    try {
      change({ job: await ask(method, path, { json }) });
    } catch (error) {
      problem.show(error);
    }
  }

  async function start() {
    const number = (input) => (input.value ? Number(input.value) : null);
    const minutes = number(budget);
    const goal = number(until);
    await work("refresh", {
      generation: target.value, adapter: adapter.value.trim() || null, order: order.value, fraction: Number(share.value),
      budget_seconds: minutes === null ? null : 60 * minutes, until: goal === null ? null : goal / 100, rate: number(rate),
    });
  }

  function commit() {
    const { refreshed, generation: name, remaining } = session.status.refresh;
    return question(words.refreshing.commit_question, [h("p", {}, words.refreshing.commits(refreshed, name, remaining)),
      h("p", { class: "warning" }, words.refreshing.no_way_back)],
      { confirm: words.refreshing.commit, danger: true, run: () => settle("commit") });
  }

  function discard() {
    const { refreshed, generation: name } = session.status.refresh;
    return question(words.refreshing.discard_question, [h("p", {}, words.refreshing.discards(refreshed, name))],
      { confirm: words.refreshing.discard, danger: true, run: () => settle("discard") });
  }

  /** Commit and discard are short jobs: what they do is awaited, so that a refusal is said in the dialog. */
  async function settle(kind) {
    change({ job: await ask("POST", kind, { json: {} }) });
    const { job } = session;
    const ended = await new Promise((resolve) => {
      if (job.state !== "running") return resolve(job);
      const stopListening = onChange((values) => {
        if (values.job?.id !== job.id || values.job.state === "running") return;
        stopListening();
        resolve(values.job);
      });
    });
    if (ended.error) throw new Error(ended.error);
    await reloadGenerations();
  }

  return { element, show, changed };
}
