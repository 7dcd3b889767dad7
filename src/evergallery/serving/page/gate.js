// The gate: whether a generation may answer, why, and what leads on from there, by a button each.

import { announce, capital, generation, h, Notice, prose, table } from "./dom.js";
import { measureOn } from "./heldout.js";
import { begin } from "./progress.js";
import { promoting } from "./promoting.js";
import { missing, session } from "./session.js";
import { words } from "./words.js";

const COLUMNS = words.gate.columns;

/** A verdict that says neither yes nor no is not red. */
const tone = ({ passed, verdict }) => (passed ? "met" : verdict === "worse" ? "unmet" : passed === null && !verdict ? "" : "pending");

/**
 * The gate before a generation.
 *
 * @param {object} one the generation.
 * @param {PromiseSettledResult} answer the gate, or why it is not known.
 * @param {{promoted: (done: object) => void, go: function}} acts
 */
export function gateOf(one, answer, acts) {
  if (one.promoted) return [];
  const heading = h("h3", {}, words.gate.title);
  if (answer.status === "rejected") {
    const notice = new Notice();
    notice.show(answer.reason);
    return [heading, notice.element, steps(one, null, acts)];
  }
  const { verdict, reason, passed, conditions, judged } = answer.value;
  const spaces = new Set(conditions.map(({ space }) => space)).size > 1;
  const word = verdict ?? (passed === null ? words.gate.not_measured : passed ? words.gate.open : words.gate.closed);
  return [
    heading,
    h("p", { class: "verdict" }, h("strong", { class: tone(answer.value) }, capital(word)), ". ", prose(capital(reason))),
    conditions.length ? h("p", { class: "faint" }, prose(words.gate.judged(judged))) : "",
    conditions.length ? table(words.gate.conditions, [COLUMNS.condition, ...(spaces ? [COLUMNS.against] : []), COLUMNS.result, COLUMNS.measured, COLUMNS.required], conditions.map((condition) =>
      h("tr", {}, h("th", { scope: "row" }, condition.name), spaces && h("td", {}, generation(condition.space)),
        h("td", { class: condition.passed ? "met" : condition.passed === false ? "unmet" : "" }, condition.passed ? words.gate.met : condition.passed === false ? words.gate.not_met : words.gate.not_measured),
        h("td", {}, written(condition.value)), h("td", {}, written(condition.limit)))), "left stacked") : "",
    steps(one, answer.value, acts),
  ];
}

const written = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? String(Math.round(1000 * value) / 1000) : String(value).replaceAll(" %", "\u00a0%"));

/** A button for each thing that can be done; what leads on is the first, and stands out. */
function steps(one, gate, { promoted, go }) {
  const reason = missing("admin", words.generations.upgrading);
  const busy = session.job?.state === "running";
  const notice = new Notice();
  const against = gate?.against ?? session.info.promoted;
  const able = one.kind !== "vectors";
  const all = {
    promote: { text: words.gate.asks(words.gate.promote(one.name)), act: async () => { const done = await promoting(one, gate, session.info.promoted); if (done) promoted(done); } },
    check: { text: words.gate.asks(words.gate.check(one.name)), act: () => check(one) },
    adapt: against && against !== one.name && { text: words.gate.asks(words.gate.adapter), act: () => adapt(one, against) },
    refresh: able && { text: words.gate.plan, not: openFor(one), act: async () => { await begin("plan", { generation: one.name }); go("gallery", { refresh: one.name }); } },
  };
  const order = [gate?.next, "promote", "check", "adapt", "refresh"].filter((name, place, names) => all[name] && names.indexOf(name) === place);
  return h("div", {},
    h("div", { class: "buttons start" },
      order.map((name) => h("button", { type: "button", class: name === gate?.next ? "primary" : "", disabled: reason !== null || Boolean(all[name].not) || (busy && name !== "promote"), title: all[name].not, "aria-describedby": reason ? "upgrade-reason" : null,
        onclick: async () => {
          notice.clear();
          try {
            await all[name].act();
          } catch (error) {
            notice.show(error);
          }
        } }, all[name].text)),
      reason && h("p", { class: "faint", id: "upgrade-reason" }, reason)),
    notice.element);
}

/** Why no refresh for a generation can be planned, or null: one at a time is open. */
function openFor(one) {
  const { refresh } = session.status;
  const opener = session.generations.find(({ name }) => name === refresh?.generation);
  return refresh && refresh.generation !== one.name && opener?.fingerprint !== one.fingerprint ? words.gate.refresh_open(refresh.generation) : null;
}

async function check(one) {
  const began = await measureOn(words.gate.check(one.name), words.gate.check(one.name),
    [h("p", {}, words.gate.check_how(one.name))],
    { path: "check", json: { generation: one.name } });
  if (began) announce(words.gate.measured_now(one.name));
}

async function adapt(one, against) {
  await measureOn(words.gate.adapter_title(one.name, against), words.gate.make_adapter,
    [h("p", {}, words.gate.adapter_how(one.name, against)),
      h("p", { class: "faint" }, words.gate.adapter_on)],
    { path: "adapt", json: { generation: one.name, against }, prefer: "stored" });
}
