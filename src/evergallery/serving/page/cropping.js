// A part of the query's picture, dragged with the mouse, a finger or the arrow keys, to be searched with alone.

import { h } from "./dom.js";
import { words } from "./words.js";

const LEAST = 0.05;
const STEP = 0.02;

/**
 * A picture on which a part can be dragged.
 *
 * @param {HTMLImageElement} image
 * @param {(part: Blob) => void} searchWith
 */
export function croppable(image, searchWith) {
  let part = null;
  let from = null;
  const frame = h("div", { class: "crop-frame", hidden: true });
  const use = h("button", { type: "button", class: "primary", onclick: async () => searchWith(await cut(image, part)) }, words.query.part);
  const whole = h("button", { type: "button", class: "quiet", onclick: () => choose(null) }, words.query.whole);
  const acts = h("div", { class: "buttons start", hidden: true }, use, whole);
  const area = h("div", { class: "croppable", tabindex: "0", role: "application", "aria-label": words.query.crop,
    onpointerdown: (event) => {
      if (event.button) return;
      event.preventDefault();
      area.setPointerCapture(event.pointerId);
      from = place(event);
    },
    onpointermove: (event) => {
      if (!from) return;
      const to = place(event);
      choose({ x: Math.min(from.x, to.x), y: Math.min(from.y, to.y), width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y) }, false);
    },
    onpointerup: () => {
      from = null;
      if (part) choose(part.width < LEAST || part.height < LEAST ? null : part);
    },
    onpointercancel: () => { from = null; },
    onkeydown: pressed,
  }, image, frame);

  function place(event) {
    const box = image.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return { x: within((event.clientX - box.left) / box.width), y: within((event.clientY - box.top) / box.height) };
  }

  /** Arrow keys move the part, with Shift they change its size; Enter begins one in the middle, Escape ends it. */
  function pressed(event) {
    if (event.key === "Enter" && !part) choose({ x: 0.25, y: 0.25, width: 0.5, height: 0.5 });
    else if (event.key === "Escape" && part) choose(null);
    else if (part && event.key.startsWith("Arrow")) {
      const [dx, dy] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
      const { x, y, width, height } = part;
      choose(event.shiftKey
        ? { x, y, width: Math.min(1 - x, Math.max(LEAST, width + dx)), height: Math.min(1 - y, Math.max(LEAST, height + dy)) }
        : { x: Math.min(1 - width, Math.max(0, x + dx)), y: Math.min(1 - height, Math.max(0, y + dy)), width, height });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function choose(next, settled = true) {
    part = next;
    frame.hidden = !part;
    acts.hidden = !part || !settled;
    if (part) for (const [name, share] of Object.entries({ left: part.x, top: part.y, width: part.width, height: part.height })) frame.style.setProperty(name, `${100 * share}%`);
  }

  return h("div", {}, area, acts);
}

/** The part of a picture, given in shares of its sides, as a picture of its own. */
async function cut(image, { x, y, width, height }) {
  const { naturalWidth: wide, naturalHeight: high } = image;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * wide));
  canvas.height = Math.max(1, Math.round(height * high));
  canvas.getContext("2d").drawImage(image, x * wide, y * high, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
