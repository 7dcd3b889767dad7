// New vectors for stored items: what they would cost and give, starting, watching, keeping or giving up.

import { ask } from "./api.js";
import { recallCurve } from "./chart.js";
import { question } from "./dialog.js";
import { bytes, count, counted, duration, field, generation, h, Notice, offer, percent, select } from "./dom.js";
import { createProgress } from "./progress.js";
import { waysTable } from "./promoting.js";
import { change, missing, onChange, reloadGenerations, session } from "./session.js";

/** Until a plan has told of which orders anything is known. */
const ORDERS = ["random"];
const SHARES = [["0.1", "10 %"], ["0.25", "25 %"], ["0.5", "50 %"], ["0.75", "75 %"], ["1", "All of them"]];

export function createRefresh() {
  const problem = new Notice();
  const progress = createProgress(({ kind, error }, active) => kind !== "duplicates" && (active || kind === "refresh" || (Boolean(error) && ["plan", "commit", "discard"].includes(kind))));
  const opened = h("div", { hidden: true });
  const planned = h("div");
  let plan = null;

  const target = select(() => draw());
  const order = select(() => drawPlan());
  const share = select();
  const budget = h("input", { type: "number", min: "1", placeholder: "none", inputmode: "numeric" });
  const rate = h("input", { type: "number", min: "1", placeholder: "none", inputmode: "numeric" });
  const until = h("input", { type: "number", min: "1", max: "100", step: "any", placeholder: "none", inputmode: "decimal" });
  const adapter = h("input", { type: "text", placeholder: "none", autocomplete: "off", spellcheck: "false" });
  const planButton = h("button", { type: "submit", class: "primary", onclick: (event) => { event.preventDefault(); work("plan", { generation: target.value, adapter: adapter.value.trim() || null }); } }, "Plan");
  const startButton = h("button", { type: "button", onclick: () => start() }, "Start the refresh");
  const reason = h("p", { class: "faint", id: "refresh-reason" });
  const form = h(
    "form",
    { class: "refresh-form", onsubmit: (event) => event.preventDefault() },
    h("div", { class: "fields" }, field("For queries of", target), field("First refreshed", order), field("How many", share)),
    h("details", {}, h("summary", {}, "Limits, and mapping instead of extracting"),
      h("div", { class: "fields" },
        field("Stop after, minutes", budget), field("At most, items a second", rate), field("Until recall@1 of, %", until),
        field("Adapter", adapter, "Maps the stored vectors; no image is read."))),
    h("div", { class: "buttons start" }, planButton, startButton, reason),
  );
  const element = h(
    "details",
    { class: "panel" },
    h("summary", {}, h("h2", {}, "Refresh")),
    h("p", { class: "faint" }, "Stored items can be extracted again by a newer generation. Their earlier vectors stay beside the new ones until you commit."),
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
    offer(target, session.generations.filter(({ kind }) => kind !== "vectors").map(({ name }) => [name, name === session.info.promoted ? `${name} (answers queries)` : name]), wanted);
    const known = Object.keys(plan?.result?.orders ?? {});
    offer(order, (known.length ? known : ORDERS).map((name) => [name, name]), order.value || "random");
    offer(share, SHARES, share.value || "1");
    const why = missing("admin", "refreshing");
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

  function drawOpen() {
    const { refresh } = session.status;
    const busy = session.job?.state === "running";
    opened.hidden = !refresh || busy;
    if (opened.hidden) return;
    const why = missing("admin", "this");
    const button = (text, onclick, kind = "") => h("button", { type: "button", class: kind, disabled: why !== null, title: why, onclick }, text);
    const all = refresh.refreshed + refresh.remaining;
    opened.replaceChildren(
      h("p", {}, "A refresh for ", generation(refresh.generation), " is open: ", h("strong", {}, `${count(refresh.refreshed)} of ${count(all)}`), ` ${all === 1 ? "item has" : "items have"} a new vector. `,
        refresh.shown ? "Searches see the new vectors." : `They wait in the shadow, and appear when ${refresh.generation} is promoted.`),
      h("progress", { value: all ? refresh.refreshed / all : 1, max: "1", "aria-label": "Refreshed items" }),
      refresh.remaining && refresh.seconds_left ? h("p", { class: "faint" }, `About ${duration(refresh.seconds_left)} for the rest.`) : "",
      h("div", { class: "buttons start" },
        refresh.remaining ? button("Go on", () => work("refresh", { generation: refresh.generation, adapter: refresh.adapter, order: order.value || "random", fraction: 1 }), "primary") : "",
        refresh.shown ? button("Commit…", commit, refresh.remaining ? "" : "primary") : "",
        button("Discard…", discard), why && h("p", { class: "faint" }, missing("admin", "refreshing"))),
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
      h("h3", {}, `Plan for ${plan.arguments.generation}`),
      h("dl", { class: "facts" }, [["Items", count(total)], ["Time", duration(seconds)], ["Disk, until you commit", bytes(size)]].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      curves ? recallCurve(orders, order.value) : h("p", { class: "faint" }, "Too few stored items have labels and images to measure what it would give."),
      curves ? h("p", { class: "faint" }, gain(orders, best)) : "",
      options?.length ? h("details", {}, h("summary", {}, "Every way of answering, beside a refresh"), waysTable(options.map(({ outcome, ...one }) => ({ ...one, score: outcome.score, change: outcome.change.mean, low: outcome.change.low, high: outcome.change.high })))) : "",
    );
  }

  function gain(orders, best) {
    const [first, last] = [Object.values(orders)[0][0], Object.values(orders)[0].at(-1)];
    const which = best ? `on the way there, ${best} gives most` : Object.keys(orders).length > 1 ? "on the way there, no order is shown to give more than another" : "";
    return `Recall@1 is expected to go from ${percent(first.recall, 1)} to ${percent(last.recall, 1)}${which ? `; ${which}` : ""}.`;
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
    return question("Commit the refresh?", [h("p", {}, `The earlier vectors of ${counted(refreshed, "item")} are deleted for good, and the vectors of ${name} stay.${remaining ? ` ${counted(remaining, "item")} keep the vector that they have.` : ""}`),
      h("p", { class: "warning" }, "After that there is no way back to the generation that searched them.")],
      { confirm: "Commit", danger: true, run: () => settle("commit") });
  }

  function discard() {
    const { refreshed, generation: name } = session.status.refresh;
    return question("Discard the refresh?", [h("p", {}, `The new vectors of ${counted(refreshed, "item")}, by ${name}, are deleted; the earlier ones serve on. Making them again takes the time that it took.`)],
      { confirm: "Discard", danger: true, run: () => settle("discard") });
  }

  /** Commit and discard are short jobs: what they do is awaited, so that a refusal is said in the dialog. */
  async function settle(kind) {
    const job = await ask("POST", kind, { json: {} });
    change({ job });
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
