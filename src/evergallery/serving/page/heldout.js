// Pictures to check with: the stored ones, or held-out ones that are sent first.

import { ask } from "./api.js";
import { open } from "./dialog.js";
import { count, counted, field, h, Notice } from "./dom.js";
import { begin } from "./progress.js";
import { session } from "./session.js";

const PORTION = 20;

/**
 * Ask on which pictures something is to be measured, and begin it.
 *
 * @param {string} title
 * @param {string} verb on the button.
 * @param {Node[]} words before the choice.
 * @param {{path: string, json: object, stored?: string}} job what is begun, with the choice as `data`.
 */
export async function measureOn(title, verb, words, { path, json, prefer = "held-out" }) {
  const notice = new Notice();
  const labelled = Object.values(session.labels).reduce((sum, number) => sum + number, 0);
  let kept = { pictures: 0, labels: {} };
  const stored = h("input", { type: "radio", name: "data", value: "stored", onchange: draw });
  const sent = h("input", { type: "radio", name: "data", value: "held-out", onchange: draw });
  const marked = h("input", { type: "radio", name: "data", value: "marks", onchange: draw });
  const markedWords = h("span");
  const markedChoice = h("label", { class: "check", hidden: true }, marked, markedWords);
  const storedWords = h("span", {}, `The ${counted(labelled, "stored item")} with a label`);
  const sentWords = h("span");
  const folder = h("input", { type: "file", accept: "image/*", multiple: true, webkitdirectory: true, onchange: () => send([...folder.files], (file) => file.webkitRelativePath.split("/").at(-2)) });
  const files = h("input", { type: "file", accept: "image/*", multiple: true, onchange: () => (label.value.trim() ? send([...files.files], () => label.value.trim()) : notice.show("Give the label of these pictures first.")) });
  const label = h("input", { type: "text", autocomplete: "off", list: "held-out-labels" });
  const known = h("datalist", { id: "held-out-labels" }, Object.keys(session.labels).map((name) => h("option", { value: name })));
  const progress = h("p", { class: "faint", role: "status" });
  const clear = h("button", { type: "button", class: "quiet", onclick: () => attempt(async () => { kept = await ask("DELETE", "held-out"); draw(); }) }, "Delete those that were sent");
  const sending = h("div", { class: "sending" },
    field("A folder, in which each label has a folder of its own", folder),
    h("details", {}, h("summary", {}, "Or pictures of one label"), field("Label", label), known, field("Pictures", files)),
    progress, clear);
  const start = h("button", { type: "submit", class: "primary" }, verb);
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); attempt(async () => { await begin(path, { ...json, data: [sent, stored, marked].find(({ checked }) => checked).value }); dialog.close("done"); }); } },
    words,
    h("fieldset", { class: "field options" }, h("legend", {}, "Measured on"),
      h("label", { class: "check" }, sent, sentWords), sending,
      h("label", { class: "check" }, stored, storedWords), markedChoice),
    notice.element,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), start));
  const { dialog, closed } = open(title, [form]);
  stored.checked = true;
  draw();

  function draw() {
    sentWords.textContent = kept.pictures ? `${counted(kept.pictures, "held-out picture")} of ${counted(Object.keys(kept.labels).length, "label")} that were sent` : "Held-out pictures, which no generation has learned from";
    sending.hidden = !sent.checked;
    clear.hidden = !kept.pictures;
    start.disabled = sent.checked && !kept.pictures;
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
    if (!pictures.length || unnamed.length) throw new Error(pictures.length ? `${unnamed[0].name} lies in no folder that could be its label.` : "There is no picture among these files.");
    const skipped = [];
    for (let place = 0; place < pictures.length; place += PORTION) {
      const body = new FormData();
      for (const file of pictures.slice(place, place + PORTION)) {
        body.append("image", file, file.name);
        body.append("label", labelOf(file));
      }
      kept = await ask("POST", "held-out", { form: body });
      skipped.push(...kept.skipped);
      progress.textContent = `${count(Math.min(place + PORTION, pictures.length))} of ${counted(pictures.length, "picture")} sent${skipped.length ? `, ${count(skipped.length)} left out: ${skipped[0].name}: ${skipped[0].reason}` : ""}`;
      sentWords.textContent = `${counted(kept.pictures, "held-out picture")} that were sent`;
    }
    folder.value = files.value = "";
  });

  try {
    const [sentBefore, { queries }] = await Promise.all([ask("GET", "held-out"), ask("GET", "marks")]);
    kept = sentBefore;
    markedWords.textContent = `${counted(queries, "query", "queries")} of which people have marked right results`;
    markedChoice.hidden = !queries || path === "adapt";
  } catch (error) {
    notice.show(error);
  }
  const held = prefer === "held-out" && (kept.pictures || !labelled);
  (held ? sent : stored).checked = true;
  draw();
  return closed.then(() => dialog.returnValue === "done");
}
