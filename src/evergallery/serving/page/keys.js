// The keys, on a page of their own.

import { open } from "./dialog.js";
import { h } from "./dom.js";
import { words } from "./words.js";

const KEYS = [
  [["/"], words.keys.search],
  [["?"], words.keys.keys],
  [["←", "→", "↑", "↓", "Home", "End"], words.keys.among],
  [["Enter"], words.keys.with],
  [["i"], words.keys.about],
  [["+"], words.keys.more],
  [["-"], words.keys.less],
  [["r"], words.keys.right],
  [["w"], words.keys.wrong],
  [["Escape"], words.keys.close],
];

export function showKeys() {
  const { dialog } = open(words.keys.title, [
    h("dl", { class: "keys" }, KEYS.map(([keys, meaning]) => [h("dt", {}, keys.map((key) => h("kbd", {}, key))), h("dd", {}, meaning)])),
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, words.common.close)),
  ]);
}
