// The stored items, a page at a time: to look through, to add to, to delete from.

import { ask, thumbnail } from "./api.js";
import { open } from "./dialog.js";
import { announce, field, generation, h, icon, Notice, offer, select } from "./dom.js";
import { deleteItems, showItem } from "./item.js";
import { arrows, nameOf } from "./results.js";
import { can, missing, reloadItems, session } from "./session.js";
import { TypeAhead } from "./typeahead.js";
import { words } from "./words.js";

const PAGE = 48;
/** Pictures in one request: many more are refused, and one sees that something happens. */
const PORTION = 20;

export function createBrowser(go) {
  let state = { label: [], of: "", meta: null };
  let shown = null;
  let next = null;
  let total = 0;
  let stored = null;
  const selected = new Map();
  const items = [];

  const problem = new Notice();
  const labels = new TypeAhead(words.common.label, () => session.labels, (chosen) => refine({ label: chosen.slice(-1) }));
  const of = select((value) => refine({ of: value }));
  const add = h("button", { type: "button", class: "primary", onclick: () => addPictures() }, icon("add"), words.browsing.add);
  const reason = h("p", { class: "faint" });
  const heading = h("h2", { id: "items-title" }, words.browsing.title);
  const list = h("ol", { class: "grid small", onkeydown: arrows });
  const empty = h("p", { class: "empty", hidden: true });
  const more = h("button", { type: "button", onclick: () => page() }, words.common.show_more);
  const place = h("p", { class: "faint", role: "status" });
  const chosen = h("div", { class: "selection", hidden: true });
  const element = h(
    "section",
    { class: "browser", "aria-labelledby": "items-title" },
    h("div", { class: "head" }, heading, h("div", { class: "buttons" }, add)),
    reason,
    h("div", { class: "fields" }, labels.element, field(words.browsing.vectors_of, of)),
    problem.element, list, empty, h("div", { class: "pages" }, place, more), chosen,
  );

  const refine = (changes) => {
    const { label, of, meta } = { ...state, ...changes };
    go("gallery", { label, of, meta }, { replace: true });
  };

  function show(parameters) {
    state = { label: parameters.getAll("label").slice(0, 1), of: parameters.get("of") ?? "", meta: parameters.get("meta") };
    draw();
    const key = JSON.stringify(state);
    if (shown === key && stored === standing()) return;
    shown = key;
    restart();
  }

  function draw() {
    labels.set(state.label);
    offer(of, [["", words.browsing.every], ...Object.keys(session.status.by_generation ?? {}).map((name) => [name, name])], state.of);
    add.disabled = !can("write") || !session.info.promoted;
    reason.textContent = missing("write", words.browsing.adding) ?? (session.info.promoted ? "" : words.browsing.none_answers);
    reason.hidden = !reason.textContent;
  }

  /** What the list depends on, beside what it is asked for. */
  const standing = () => JSON.stringify(session.status.by_generation);

  function changed(values) {
    if (values.status || values.me || values.labels) draw();
    // While a refresh runs, vectors change from moment to moment: the list is read again when it has ended.
    if (values.status && stored !== null && stored !== standing() && session.job?.state !== "running") restart();
  }

  function restart() {
    stored = standing();
    next = null;
    selected.clear();
    items.length = 0;
    drawChosen();
    list.replaceChildren();
    return page();
  }

  async function page() {
    problem.clear();
    more.disabled = true;
    const key = shown;
    const after = next;
    try {
      const found = await ask("GET", "items", { query: { label: state.label, generation: state.of, ...metadataOf(state.meta), after, limit: PAGE } });
      if (key !== shown || after !== next) return;
      const first = list.childElementCount;
      items.push(...found.items);
      list.append(...found.items.map((item, index) => tile(item, first + index)));
      ({ next, total } = found);
      if (first) list.children[first]?.querySelector("button").focus();
      empty.hidden = list.childElementCount > 0;
      empty.textContent = state.label.length || state.of || state.meta ? words.browsing.none : words.common.empty;
      place.textContent = total ? words.browsing.place(list.childElementCount, total) : "";
      more.hidden = !next;
    } catch (error) {
      problem.show(error);
    } finally {
      more.disabled = false;
    }
  }

  function tile(item, index) {
    const name = item.label ?? item.id;
    return h(
      "li",
      { class: "tile", dataset: { item: item.id } },
      h("button", { type: "button", class: "search-with", tabindex: index ? "-1" : "0", "aria-label": words.browsing.about(name, item.generation), onclick: () => showItem(item, { go, beside: items.map((one) => ({ item: one })), place: items.indexOf(item) }) }, thumbnail(item, 256, "")),
      can("write") && h("label", { class: "pick" }, h("input", { type: "checkbox", "aria-label": words.browsing.select(name), onchange: (event) => { if (event.target.checked) selected.set(item.id, item); else selected.delete(item.id); drawChosen(); } })),
      h("div", { class: "of" }, nameOf(name), generation(item.generation)),
    );
  }

  function drawChosen() {
    chosen.hidden = selected.size === 0;
    chosen.replaceChildren(
      h("span", {}, words.browsing.selected(selected.size)),
      h("button", { type: "button", onclick: () => { for (const box of list.querySelectorAll(".pick input")) box.checked = false; selected.clear(); drawChosen(); } }, words.browsing.select_none),
      h("button", { type: "button", class: "danger", onclick: () => deleteItems([...selected.values()]).then((done) => done && announce(words.browsing.deleted)) }, words.browsing.delete),
    );
  }

  // Adding

  function addPictures() {
    const notice = new Notice();
    let pictures = [];
    const names = h("ul", { class: "files" });
    const file = h("input", { type: "file", accept: "image/*", multiple: true, onchange: () => take([...file.files]) });
    const label = h("input", { type: "text", autocomplete: "off", list: "known-labels" });
    const known = h("datalist", { id: "known-labels" }, Object.keys(session.labels).map((name) => h("option", { value: name })));
    const id = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
    const idField = field(words.browsing.id, id, words.browsing.id_hint);
    const result = h("div", { role: "status" });
    const button = h("button", { type: "submit", class: "primary", disabled: true }, words.browsing.add_button);
    const take = (files) => {
      pictures = files;
      names.replaceChildren(...pictures.slice(0, 12).map((one) => h("li", {}, one.name)), ...(pictures.length > 12 ? [h("li", {}, words.common.and_more(pictures.length - 12))] : []));
      button.disabled = pictures.length === 0;
      button.textContent = pictures.length ? words.browsing.add_number(pictures.length) : words.browsing.add_button;
      idField.hidden = pictures.length > 1;
      result.replaceChildren();
      notice.clear();
    };
    const send = (portion, identifier) => {
      const body = new FormData();
      for (const picture of portion) body.append("image", picture, picture.name);
      if (label.value.trim()) body.append("label", label.value.trim());
      if (identifier) body.append("id", identifier);
      return ask("POST", "items", { form: body });
    };
    const form = h("form", {
      onsubmit: async (event) => {
        event.preventDefault();
        notice.clear();
        button.disabled = true;
        const identifier = pictures.length === 1 ? id.value.trim() : "";
        const sum = { added: 0, replaced: 0, unchanged: 0, skipped: [], conflicts: [] };
        const tell = () => result.replaceChildren(
          h("p", { class: "met" }, words.browsing.added(sum)),
          sum.conflicts.length ? h("ul", { class: "unmet" }, sum.conflicts.map((one) => h("li", {}, words.browsing.keeps_label(one.item, one.known)))) : "",
          sum.skipped.length ? h("ul", { class: "unmet" }, sum.skipped.map((one) => h("li", {}, words.browsing.skipped(one.name, one.reason)))) : "");
        try {
          while (pictures.length) {
            const answer = await send(pictures.slice(0, PORTION), identifier);
            for (const name of ["added", "replaced", "unchanged"]) sum[name] += answer[name];
            sum.skipped.push(...answer.skipped);
            sum.conflicts.push(...answer.conflicts);
            take(pictures.slice(PORTION));
            button.disabled = true;
            tell();
          }
          file.value = "";
        } catch (error) {
          notice.show(error);
          button.disabled = false;
        }
        reloadItems().catch((error) => notice.show(error));
      },
      ondragover: (event) => event.preventDefault(),
      ondrop: (event) => { event.preventDefault(); take([...event.dataTransfer.files].filter((one) => one.type.startsWith("image/"))); },
    },
      h("p", { class: "faint" }, words.browsing.how(session.info.promoted)),
      field(words.common.pictures_field, file), names, field(words.common.label, label), known, idField, notice.element, result,
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, words.common.close), button));
    const { dialog } = open(words.browsing.add, [form]);
  }

  return { element, show, changed };
}

/** A name and a value of the metadata as the server is asked for them; text that looks like JSON goes in double quotes. */
function metadataOf(meta) {
  if (!meta) return {};
  const [name, value] = JSON.parse(meta);
  return { [`metadata.${name}`]: JSON.stringify(value) };
}
