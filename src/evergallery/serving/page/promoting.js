// Promoting: which generation answers, and in which way, after a look at what each way gives and costs.

import { ask } from "./api.js";
import { question } from "./dialog.js";
import { field, h, prose, table } from "./dom.js";
import { percent, points } from "./figures.js";
import { words } from "./words.js";

/** Those that a promotion can take. */
const WAYS = words.promoting.ways;

/**
 * Ask in which way a generation shall answer, and let it.
 *
 * @param {object} one the generation.
 * @param {object} gate its judgement in the usual way.
 * @param {string} answers who answers now.
 * @returns {Promise<?object>} what the server says was done, or null.
 */
export async function promoting(one, gate, answers) {
  let judged = gate;
  let done = null;
  let asked = 0;
  const { options } = await ask("GET", `ways/${encodeURIComponent(one.name)}`).catch(() => ({ options: [] }));
  const choices = choicesOf(options);
  const body = h("div");
  const why = h("textarea", { rows: "3", required: true });
  const against = h("input", { type: "checkbox", onchange: () => { reasons.hidden = !against.checked; if (against.checked) why.focus(); } });
  const reasons = h("div", { hidden: true }, field(words.promoting.reason, why, words.promoting.reason_kept));
  let chosen = choices[0];

  const passed = () => judged?.passed === true;

  function draw() {
    const failed = judged?.conditions.filter((condition) => condition.passed === false) ?? [];
    body.replaceChildren(
      ...(passed()
        ? [h("p", { class: "faint" }, words.promoting.can_go_back)]
        : [h("div", { class: "warning" },
          h("p", {}, h("strong", {}, words.promoting.not_passed), failed.length ? "" : prose(judged?.reason ?? "")),
          failed.length > 0 && h("ul", {}, failed.map(({ name, value, limit, space }) => h("li", {}, prose(words.promoting.condition(name, space, value, limit))))),
          h("label", { class: "check" }, against, words.promoting.all_the_same), reasons)]),
    );
  }

  async function choose(choice, button) {
    chosen = choice;
    const turn = ++asked;
    judged = choice.way === "checked" ? gate : await ask("GET", `gate/${encodeURIComponent(one.name)}`, { query: { answer: choice.way, candidates: choice.candidates } }).catch((error) => ({ passed: false, reason: error.message, conditions: [] }));
    if (turn !== asked) return;
    draw();
    button.form?.dispatchEvent(new Event("input"));
  }

  draw();
  await question(
    words.promoting.question(one.name),
    [
      h("p", {}, prose(gate?.would_change ?? words.promoting.would_answer(one.name, answers))),
      options.length > 0 && h("details", { class: "ways" }, h("summary", {}, words.promoting.way),
        h("fieldset", { class: "field options" }, h("legend", {}, words.promoting.older),
          choices.map((choice) => h("label", { class: "check" },
            h("input", { type: "radio", name: "way", checked: choice === chosen, onchange: (event) => choose(choice, event.target) }),
            h("span", {}, choice.text, choice.figures && h("small", {}, choice.figures))))),
        h("details", {}, h("summary", {}, words.promoting.everything), waysTable(options))),
      body,
    ],
    {
      kind: options.length ? "wide-dialog" : "", confirm: words.gate.promote(one.name), danger: () => !passed(),
      ready: () => passed() || (against.checked && why.value.trim() !== ""),
      run: async () => {
        const way = chosen.way === "checked" ? {} : { answer: chosen.way, candidates: chosen.candidates };
        done = await ask("POST", "promote", { json: { generation: one.name, ...way, force: !passed(), why: passed() ? null : why.value.trim() } });
      },
    },
  );
  return done;
}

/** What can be chosen, each with its figures where it was measured; the usual way first. */
function choicesOf(options) {
  const measured = options.filter(({ way, share }) => share === 0 && way in WAYS);
  return [
    { way: "checked", text: WAYS.checked },
    ...measured.map(({ way, candidates, ...one }) => ({ way, candidates, text: `${WAYS[way]}${candidates ? words.promoting.candidates(candidates) : ""}`, figures: figures(one) })),
  ];
}

const figures = ({ score, milliseconds, images }) => words.promoting.figures(percent(score, 1), milliseconds, images);

/** All that was measured, from waiting to a full refresh. */
export const waysTable = (options) =>
  table(words.promoting.table, words.promoting.columns,
    options.map(({ name, way, score, change, low, high, milliseconds, images, seconds, passes }) =>
      h("tr", {}, h("th", { scope: "row", class: "words" }, name),
        h("td", {}, percent(score, 1)),
        h("td", {}, way === "wait" ? "–" : words.promoting.change(points(change), points(low), points(high))),
        h("td", {}, milliseconds === null ? "–" : words.promoting.cost(milliseconds, images)),
        h("td", {}, seconds === null ? "–" : seconds ? words.common.duration(seconds) : words.promoting.at_once),
        h("td", { class: passes ? "met" : "pending" }, passes ? words.promoting.passes : words.promoting.fails))), "left dense stacked");
