// Elements from descriptions, and the few pieces that every view is made of.

import { moment } from "./figures.js";
import { words } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("p", { class: "faint", onclick: act }, "text", node, [nodes], null). */
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** The same for SVG. */
export function s(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    // The page's policy forbids style attributes; properties set by a script are not attributes.
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  picture: "M4 5h16v14H4zM4 16l4.5-4.5 4 4L15 13l5 4M15.5 9.5h.01",
  camera: "M4 8h3.5L9 5.5h6L16.5 8H20v11H4zM12 16.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13M15.2 15.2 20 20",
  close: "M6 6l12 12M18 6 6 18",
  details: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 11v5.5M12 7.6h.01",
  key: "M9 18a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9M12.3 10.3 20 4M16 7l3 3",
  columns: "M4 5h6.5v14H4zM13.5 5H20v14h-6.5z",
  add: "M12 5v14M5 12h14",
  less: "M5 12h14",
  check: "M5 12.5 10 17.5 19 7",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5",
  half: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
};

/** A picture of 24 × 24 that says nothing a text beside it does not say. */
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));
}

/** A command in a sentence of the server: it is set off by two spaces, and stands before two or the end. */
const COMMAND = /(?<= {2})evergallery (?:(?! {2}).)+?(?= {2}|[.:,;]?(?: {2}|\n|$))/g;
const HERE = "\u0001";
const CLAUSE = new RegExp(`(?:[.;:](?=\\s))?(?:(?![.;:](?:\\s|$))[^${HERE}])*${HERE}(?:(?![.;](?:\\s|$)).)*(?=[.;](?:\\s|$)|$)`, "g");

/** A sentence of the server without the clauses that name commands; no line ends before a %, and times are written out. */
export function prose(sentence) {
  const left = String(sentence).replace(COMMAND, HERE).replace(CLAUSE, (clause, at, all) => (clause.startsWith(".") && all[at + clause.length] !== "." ? "." : "")).trim();
  const whole = left && !/[.!?]$/.test(left) ? `${left}.` : left;
  return whole.replaceAll(" %", "\u00a0%").replace(/\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)/g, moment);
}

/** Where the page has a button for what a command does. */
const VIEWS = { check: "generations", promote: "generations", rollback: "generations", adapt: "generations", plan: "generations", refresh: "gallery", gallery: "gallery", index: "gallery" };

/** A sentence of the server with what leads on from it: a link to where the page does the same, and the commands on demand. */
export function told(sentence) {
  const commands = String(sentence).match(COMMAND) ?? [];
  const links = new Map(commands.flatMap((command) => {
    const [, verb, ...rest] = command.split(/\s+/);
    const name = rest.find((word) => /^v\d+$/.test(word));
    if (!VIEWS[verb]) return [];
    const address = `#/${VIEWS[verb]}${VIEWS[verb] === "generations" && name ? `?name=${name}` : ""}`;
    return [[address, VIEWS[verb] === "gallery" ? words.common.gallery : name ? words.common.generations_of(name) : words.common.generations]];
  }));
  return [
    h("p", {}, prose(sentence)),
    commands.length > 0 && h("div", { class: "leads-on" },
      [...links].filter(([address]) => address !== location.hash).map(([address, text]) => h("a", { href: address }, text)),
      h("details", {}, h("summary", {}, words.common.on_the_command_line), commands.map((command) => h("code", {}, command)))),
  ].filter(Boolean);
}

/** Why something did not work, near where it arose; hidden while there is nothing to say. */
export class Notice {
  constructor() {
    this.element = h("div", { class: "problem", role: "alert", hidden: true });
  }

  show(error) {
    this.element.replaceChildren(...told(error.message ?? error));
    this.element.hidden = false;
  }

  clear() {
    this.element.hidden = true;
    this.element.replaceChildren();
  }
}

/** Tell those who do not see the page. */
export function announce(sentence) {
  document.getElementById("announcer").textContent = sentence;
}

/** A labelled field. */
export function field(label, input, hint = null) {
  input.id ||= `field-${(field.count = (field.count ?? 0) + 1)}`;
  const description = hint && h("small", { id: `${input.id}-hint` }, hint);
  if (hint) input.setAttribute("aria-describedby", description.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, description);
}

/** A field to choose from a list; `offer` fills it. */
export function select(onchange) {
  return h("select", { onchange: (event) => onchange?.(event.target.value) });
}

/** Let a select have these options, [value, text], unless it has them already, and this one chosen. */
export function offer(element, options, value) {
  const key = JSON.stringify(options);
  if (element.dataset.options !== key) {
    element.dataset.options = key;
    element.replaceChildren(...options.map(([one, text]) => h("option", { value: one }, text)));
  }
  element.value = value;
}

/**
 * Let an element hold these, and leave what looks the same where it is: a press that has begun outlasts what the
 * server tells meanwhile, and so does the place of the keyboard. What stays keeps its listeners, so these read the
 * session when they are called.
 */
export function redraw(element, ...children) {
  const fresh = document.createDocumentFragment();
  // What is absent holds its place, so that those behind it keep theirs.
  fresh.append(...children.map((child) => child || ""));
  const nodes = [...fresh.childNodes];
  const before = [...element.childNodes];
  nodes.forEach((node, at) => {
    if (at >= before.length) element.append(node);
    else if (!before[at].isEqualNode(node)) before[at].replaceWith(node);
  });
  for (const node of before.slice(nodes.length)) node.remove();
}

/** One of few, as buttons in a row. */
export class Choice {
  constructor(label, options, onchoice) {
    this.buttons = new Map(options.map(([key, text]) => [key, h("button", { type: "button", onclick: () => onchoice(key) }, text)]));
    this.element = h("div", { class: "choice", role: "group", "aria-label": label }, [...this.buttons.values()]);
  }

  set(value) {
    for (const [key, button] of this.buttons) button.setAttribute("aria-pressed", String(key === value));
  }
}

/** What scrolls sideways fades out at the side where there is more of it. */
export function hinting(region) {
  const look = () => {
    const hidden = region.scrollWidth - region.clientWidth;
    region.classList.toggle("more-left", region.scrollLeft > 1);
    region.classList.toggle("more-right", region.scrollLeft < hidden - 1);
  };
  region.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(region);
  return region;
}

/** A scrolling table that the keyboard reaches; one that is `stacked` is a paragraph a row on a phone. */
export function table(label, columns, rows, kind = "") {
  if (kind.includes("stacked")) for (const row of rows) [...row.children].forEach((cell, index) => index && (cell.dataset.label = columns[index]));
  return hinting(h(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": label },
    h(
      "table",
      { class: kind },
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)))),
      h("tbody", {}, rows),
    ),
  ));
}

/** A generation's name with its colour. */
export function generation(name) {
  return h("span", { class: "generation" }, h("span", { class: `dot ${colour(name)}`, "aria-hidden": "true" }), name);
}

/** A class of the style sheet: five colours that the colour-blind tell apart, in turn. */
export function colour(name) {
  const number = Number.parseInt(name.replace(/\D+/g, ""), 10) || 1;
  return `c${(number - 1 + (name.startsWith("a") ? 2 : 0)) % 5}`;
}

/** A sentence with a capital; names of generations and adapters keep their letter. */
export const capital = (sentence) => (/^[av]\d/.test(sentence) ? sentence : sentence.charAt(0).toUpperCase() + sentence.slice(1));
/** An id as it is shown: of a hash its beginning. */
export const short = (id) => (/^[0-9a-f]{32,}$/.test(id) ? `${id.slice(0, 12)}…` : id);
