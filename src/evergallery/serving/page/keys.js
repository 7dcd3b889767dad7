// The keys, on a page of their own.

import { open } from "./dialog.js";
import { h } from "./dom.js";

const KEYS = [
  [["/"], "to the search field"],
  [["?"], "these keys"],
  [["←", "→", "↑", "↓", "Home", "End"], "among pictures"],
  [["Enter"], "search with a picture"],
  [["i"], "about a picture; ← and → go on from it"],
  [["+"], "more like this picture, too"],
  [["-"], "less like it"],
  [["r"], "it is right for the query"],
  [["w"], "it is wrong"],
  [["Escape"], "close"],
];

export function showKeys() {
  const { dialog } = open("Keys", [
    h("dl", { class: "keys" }, KEYS.map(([keys, words]) => [h("dt", {}, keys.map((key) => h("kbd", {}, key))), h("dd", {}, words)])),
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
  ]);
}
