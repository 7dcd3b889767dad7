// Pictures to check with: the stored ones, or held-out ones that are sent first.

import { ask } from "./api.js";
import { open } from "./dialog.js";
import { field, h, Notice } from "./dom.js";
import { begin } from "./progress.js";
import { session } from "./session.js";
import { words } from "./words.js";

const PORTION = 20;

/**
 * Ask on which pictures something is to be measured, and begin it.
 *
 * @param {string} title
 * @param {string} verb on the button.
 * @param {Node[]} explained before the choice.
 * @param {{path: string, json: object, stored?: string}} job what is begun, with the choice as `data`.
 */
export async function measureOn(title, verb, explained, { path, json, prefer = "held-out" }) {
  const notice = new Notice();
  const labelled = Object.values(session.labels).reduce((sum, number) => sum + number, 0);
  let kept = { pictures: 0, labels: {} };
  const stored = h("input", { type: "radio", name: "data", value: "stored", onchange: draw });
  const sent = h("input", { type: "radio", name: "data", value: "held-out", onchange: draw });
  const marked = h("input", { type: "radio", name: "data", value: "marks", onchange: draw });
  const markedWords = h("span");
  const markedChoice = h("label", { class: "check", hidden: true }, marked, markedWords);
  const storedWords = h("span", {}, words.measuring.stored(labelled));
  const sentWords = h("span");
  const folder = h("input", { type: "file", accept: "image/*", multiple: true, webkitdirectory: true, onchange: () => send([...folder.files], (file) => file.webkitRelativePath.split("/").at(-2)) });
  const files = h("input", { type: "file", accept: "image/*", multiple: true, onchange: () => (label.value.trim() ? send([...files.files], () => label.value.trim()) : notice.show(words.measuring.label_first)) });
  const label = h("input", { type: "text", autocomplete: "off", list: "held-out-labels" });
  const known = h("datalist", { id: "held-out-labels" }, Object.keys(session.labels).map((name) => h("option", { value: name })));
  const progress = h("p", { class: "faint", role: "status" });
  const clear = h("button", { type: "button", class: "quiet", onclick: () => attempt(async () => { kept = await ask("DELETE", "held-out"); draw(); }) }, words.measuring.forget);
  const sending = h("div", { class: "sending" },
    field(words.measuring.folder, folder),
    h("details", {}, h("summary", {}, words.measuring.one_label), field(words.common.label, label), known, field(words.common.pictures_field, files)),
    progress, clear);
  const start = h("button", { type: "submit", class: "primary" }, verb);
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); attempt(async () => { await begin(path, { ...json, data: [sent, stored, marked].find(({ checked }) => checked).value }); dialog.close("done"); }); } },
    explained,
    h("fieldset", { class: "field options" }, h("legend", {}, path === "adapt" ? words.measuring.fitted : words.measuring.on),
      h("label", { class: "check" }, sent, sentWords), sending,
      h("label", { class: "check" }, stored, storedWords), markedChoice),
    notice.element,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, words.common.cancel), start));
  const { dialog, closed } = open(title, [form]);
  stored.checked = true;
  draw();

  function draw() {
    sentWords.textContent = sentSoFar();
    sending.hidden = !sent.checked;
    clear.hidden = !kept.pictures;
    start.disabled = sent.checked && !kept.pictures;
  }

  function sentSoFar() {
    return kept.pictures ? words.measuring.sent(kept.pictures, Object.keys(kept.labels).length) : words.measuring.none_sent;
  }

  async function attempt(act) {
    notice.clear();
    start.disabled = true;
    try {
      await act();
    } catch (error) {
      notice.show(error);
    }
    draw();
  }

  const send = (chosen, labelOf) => attempt(async () => {
    const pictures = chosen.filter((file) => file.type.startsWith("image/"));
    const unnamed = pictures.filter((file) => !labelOf(file));
    if (!pictures.length || unnamed.length) throw new Error(pictures.length ? words.measuring.no_label(unnamed[0].name) : words.measuring.no_picture);
    const skipped = [];
    for (let place = 0; place < pictures.length; place += PORTION) {
      const body = new FormData();
      for (const file of pictures.slice(place, place + PORTION)) {
        body.append("image", file, file.name);
        body.append("label", labelOf(file));
      }
      kept = await ask("POST", "held-out", { form: body });
      skipped.push(...kept.skipped);
      progress.textContent = words.measuring.sending(Math.min(place + PORTION, pictures.length), pictures.length, skipped);
      sentWords.textContent = sentSoFar();
    }
    folder.value = files.value = "";
  });

  try {
    const [sentBefore, { queries }] = await Promise.all([ask("GET", "held-out"), ask("GET", "marks")]);
    kept = sentBefore;
    markedWords.textContent = words.measuring.marked(queries);
    markedChoice.hidden = !queries || path === "adapt";
  } catch (error) {
    notice.show(error);
  }
  const held = prefer === "held-out" && (kept.pictures || !labelled);
  (held ? sent : stored).checked = true;
  draw();
  return closed.then(() => dialog.returnValue === "done");
}
