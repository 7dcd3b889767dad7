// Items that show nearly the same: found when somebody asks, laid side by side, and deleted but for one.

import { ask, thumbnail } from "./api.js";
import { field, h, Notice, short } from "./dom.js";
import { deleteItems, showItem } from "./item.js";
import { begin, createProgress } from "./progress.js";
import { missing, session } from "./session.js";
import { words } from "./words.js";

const SHOWN = 12;

export function createDuplicates(go) {
  const notice = new Notice();
  const progress = createProgress(({ kind, error }, active) => kind === "duplicates" && (active || Boolean(error)));
  const least = h("input", { type: "number", min: "0.5", max: "1", step: "any", value: "0.98", inputmode: "decimal" });
  const start = h("button", { type: "submit" }, words.duplicates.look);
  const reason = h("p", { class: "faint" });
  const found = h("div");
  const element = h("details", { class: "duplicates" }, h("summary", {}, words.duplicates.title),
    h("form", { onsubmit: (event) => { event.preventDefault(); look(); } },
      h("div", { class: "fields" }, field(words.duplicates.least, least, words.duplicates.least_hint)),
      h("div", { class: "buttons start" }, start, reason)),
    progress.element, notice.element, found);
  let drawn = null;
  let from = 0;

  async function look() {
    notice.clear();
    try {
      await begin("duplicates", { at_least: Number(least.value) });
    } catch (error) {
      notice.show(error);
    }
  }

  function draw() {
    const why = missing("write", words.duplicates.looking);
    start.disabled = why !== null || session.job?.state === "running";
    reason.textContent = why ?? "";
    progress.draw();
    const { job } = session;
    if (job?.kind !== "duplicates" || !job.result || drawn === job.id) return;
    drawn = job.id;
    from = 0;
    element.open = true;
    const { groups, count: all, looked, left } = job.result;
    const list = h("div");
    const more = h("button", { type: "button", onclick: () => show(groups, list, more) }, words.common.show_more);
    found.replaceChildren(
      h("p", {}, words.duplicates.found(all, looked), left ? words.duplicates.left(left) : ""),
      list, more);
    show(groups, list, more);
  }

  async function show(groups, list, more) {
    const some = groups.slice(from, (from += SHOWN));
    more.hidden = from >= groups.length;
    list.append(...(await Promise.all(some.map(drawGroup))).filter(Boolean));
  }

  async function drawGroup({ items: ids, count: all, least: cosine }) {
    const answers = await Promise.allSettled(ids.slice(0, SHOWN).map((id) => ask("GET", "item", { query: { id } })));
    const items = answers.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
    if (items.length < 2) return null;
    const group = h("section", { class: "group", "aria-label": words.duplicates.group(all) },
      h("div", { class: "head" }, h("p", {}, h("strong", {}, words.common.items(all)), words.duplicates.cosine(cosine, all > items.length ? items.length : null)),
        h("button", { type: "button", disabled: missing("write", words.duplicates.deleting) !== null, onclick: async () => { if (await deleteItems(items.slice(1))) group.remove(); } }, words.duplicates.keep_first(items.length - 1))),
      h("ol", { class: "grid small" }, items.map((item, place) => h("li", { class: "tile", dataset: { item: item.id } },
        h("button", { type: "button", class: "search-with", "aria-label": words.common.about(item.label ?? short(item.id)), onclick: () => showItem(item, { go, beside: items.map((one) => ({ item: one })), place }) }, thumbnail(item, 256, "")),
        h("div", { class: "of" }, h("span", {}, item.label ?? short(item.id)))))));
    return group;
  }

  return { element, draw, changed: (values) => (values.job || values.me) && draw() };
}
