// Promoting: which generation answers, and in which way, after a look at what each way gives and costs.

import { ask } from "./api.js";
import { question } from "./dialog.js";
import { duration, field, h, percent, prose, table, withoutCommands } from "./dom.js";

/** How a way is called where it is chosen; those that a promotion can take. */
const WAYS = {
  checked: "As the last check has shown",
  direct: "Directly: its queries search the older vectors as they are",
  adapter: "Through an adapter: its queries are mapped into the older vectors’ space",
  dual: "Dual query: the older model looks at each query too, and asks its own vectors",
  rescore: "Re-scored: older vectors find candidates, which are ranked by new ones made on the way",
};

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
  const reasons = h("div", { hidden: true }, field("Reason", why, "Kept in the log, with the figures, for ever."));
  let chosen = choices[0];

  const passed = () => judged?.passed === true;

  function draw() {
    const failed = judged?.conditions.filter((condition) => condition.passed === false) ?? [];
    body.replaceChildren(
      ...(passed()
        ? [h("p", { class: "faint" }, "You can go back at any time: the vectors stay as they are.")]
        : [h("div", { class: "warning" },
          h("p", {}, h("strong", {}, "The gate is not passed. "), ...(failed.length ? [] : prose(withoutCommands(judged?.reason ?? "")).flat())),
          failed.length > 0 && h("ul", {}, failed.map(({ name, value, limit, space }) => h("li", {}, ...prose(`${name} against ${space}: ${value}; required: ${limit}`).flat()))),
          h("label", { class: "check" }, against, "Promote it all the same"), reasons)]),
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
    `Promote ${one.name}?`,
    [
      h("p", {}, ...prose(gate?.would_change ?? `${one.name} would answer queries in place of ${answers}.`).flat()),
      options.length > 0 && h("details", { class: "ways" }, h("summary", {}, "The way of answering"),
        h("fieldset", { class: "field options" }, h("legend", {}, "How older vectors are searched"),
          choices.map((choice) => h("label", { class: "check" },
            h("input", { type: "radio", name: "way", checked: choice === chosen, onchange: (event) => choose(choice, event.target) }),
            h("span", {}, choice.text, choice.figures && h("small", {}, ` ${choice.figures}`))))),
        waysTable(options)),
      body,
    ],
    {
      confirm: `Promote ${one.name}`, danger: () => !passed(),
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
    ...measured.map(({ way, candidates, ...one }) => ({ way, candidates, text: `${WAYS[way]}${candidates ? `, ${candidates} candidates` : ""}`, figures: figures(one) })),
  ];
}

const figures = ({ score, milliseconds, images }) =>
  `${percent(score, 1)}${milliseconds === null ? "" : `, ${Math.round(milliseconds)} ms a query`}${images ? `, ${images.toFixed(0)} images at first` : ""}`;

/** All that was measured, from waiting to a full refresh. */
export const waysTable = (options) =>
  table("Ways of answering", ["way", "recall@1", "against now", "a query", "before it answers so", "gate"],
    options.map(({ name, score, change, low, high, milliseconds, images, seconds, passes }) =>
      h("tr", {}, h("th", { scope: "row", class: "words" }, name),
        h("td", {}, percent(score, 1)),
        h("td", {}, `${points(change)} (${points(low)} to ${points(high)})`),
        h("td", {}, milliseconds === null ? "–" : `${Math.round(milliseconds)} ms${images ? `, ${images.toFixed(0)} images` : ""}`),
        h("td", {}, seconds === null ? "–" : seconds ? duration(seconds) : "at once"),
        h("td", { class: passes ? "met" : "pending" }, passes ? "passes" : "does not pass"))), "left dense");

const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;
