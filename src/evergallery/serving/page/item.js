// One item of the gallery, at large.

import { ask, thumbnail } from "./api.js";
import { open, question } from "./dialog.js";
import { generation, h, moment } from "./dom.js";
import { can, reloadItems } from "./session.js";

/** Show an item with all that is known of it; `measure` is how near it was to the query. */
export function showItem(item, { go, measure = null, onDeleted = () => {} }) {
  const rows = [
    ["Label", item.label ?? "none"],
    ["Match", measure],
    ["Vector of", generation(item.generation)],
    ["Id", item.id],
    ["Image", item.uri],
    ["Added", moment(item.added)],
    ["Content", item.content_hash && h("span", { class: "id" }, item.content_hash)],
    ...Object.entries(item.metadata ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ].filter(([, value]) => value !== null && value !== undefined);
  const { dialog } = open(item.label ?? item.id, [
    h("div", { class: "portrait" }, thumbnail(item, 512),
      h("dl", {}, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
    h("div", { class: "buttons" },
      can("write") && h("button", { type: "button", class: "danger quiet", onclick: async () => { if (await deleteItems([item])) { dialog.close(); onDeleted(); } } }, "Delete"),
      h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
      h("button", { type: "button", class: "primary", onclick: () => { dialog.close(); go("search", { item: item.id }); } }, "Search with it")),
  ], "wide-dialog");
}

/** Delete items after a question; returns whether they were. */
export function deleteItems(items) {
  const many = items.length > 1;
  return question(
    many ? `Delete ${items.length} items?` : `Delete ${items[0].label ?? items[0].id}?`,
    [h("p", {}, many ? "Their vectors, of every generation, leave the gallery for good." : "Its vectors, of every generation, leave the gallery for good.", " Image files that were indexed stay where they are.")],
    {
      confirm: "Delete", danger: true,
      run: async () => {
        await ask("DELETE", "items", { json: { ids: items.map(({ id }) => id) } });
        await reloadItems();
      },
    },
  );
}
