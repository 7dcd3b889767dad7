// The gate: whether a generation may answer, why, and what leads on from there, by a button each.

import { announce, capital, generation, h, Notice, prose, table, withoutCommands } from "./dom.js";
import { measureOn } from "./heldout.js";
import { begin } from "./progress.js";
import { promoting } from "./promoting.js";
import { missing, session } from "./session.js";

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
  const heading = h("h3", {}, "The gate");
  if (answer.status === "rejected") {
    const notice = new Notice();
    notice.show(answer.reason);
    return [heading, notice.element, steps(one, null, acts)];
  }
  const { verdict, reason, passed, conditions, judged } = answer.value;
  const spaces = new Set(conditions.map(({ space }) => space)).size > 1;
  const word = verdict ?? (passed === null ? "not measured" : passed ? "open" : "closed");
  return [
    heading,
    h("p", { class: "verdict" }, h("strong", { class: tone(answer.value) }, capital(word)), ". ", ...prose(capital(withoutCommands(reason))).flat()),
    conditions.length ? h("p", { class: "faint" }, ...prose(`Judged: ${judged}.`).flat()) : "",
    conditions.length ? table("Conditions of the gate", ["condition", ...(spaces ? ["against"] : []), "result", "measured", "required"], conditions.map((condition) =>
      h("tr", {}, h("th", { scope: "row" }, condition.name), spaces && h("td", {}, generation(condition.space)),
        h("td", { class: condition.passed ? "met" : condition.passed === false ? "unmet" : "" }, condition.passed ? "met" : condition.passed === false ? "not met" : "not measured"),
        h("td", {}, written(condition.value)), h("td", {}, written(condition.limit)))), "left") : "",
    steps(one, answer.value, acts),
  ];
}

const written = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? String(Math.round(1000 * value) / 1000) : String(value).replaceAll(" %", "\u00a0%"));

/** A button for each thing that can be done; what leads on is the first, and stands out. */
function steps(one, gate, { promoted, go }) {
  const reason = missing("admin", "upgrading");
  const busy = session.job?.state === "running";
  const notice = new Notice();
  const against = gate?.against ?? session.info.promoted;
  const able = one.kind !== "vectors";
  const all = {
    promote: { text: `Promote ${one.name}…`, act: async () => { const done = await promoting(one, gate, session.info.promoted); if (done) promoted(done); } },
    check: { text: `Check ${one.name}…`, act: () => check(one) },
    adapt: against && against !== one.name && { text: "Make an adapter…", act: () => adapt(one, against) },
    refresh: able && { text: "Plan a refresh", not: openFor(one), act: async () => { await begin("plan", { generation: one.name }); go("gallery", { refresh: one.name }); } },
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
  return refresh && refresh.generation !== one.name ? `A refresh for ${refresh.generation} is open: commit or discard it under Gallery first.` : null;
}

async function check(one) {
  const began = await measureOn(`Check ${one.name}`, `Check ${one.name}`,
    [h("p", {}, `${one.name} is measured beside what answers now and what the gallery holds. What the check shows opens the gate, or closes it.`)],
    { path: "check", json: { generation: one.name } });
  if (began) announce(`${one.name} is being measured.`);
}

async function adapt(one, against) {
  await measureOn(`An adapter from ${one.name} to ${against}`, "Make the adapter",
    [h("p", {}, `It maps queries of ${one.name} into the space of ${against}, so that the stored vectors stay as they are. Several kinds are fitted; the best on pictures that it has not seen is kept, and serves once a check has shown that it may.`),
      h("p", { class: "faint" }, "Fit it on other pictures than those that it is checked on.")],
    { path: "adapt", json: { generation: one.name, against }, prefer: "stored" });
}
