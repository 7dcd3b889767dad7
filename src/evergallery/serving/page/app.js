// The page: which view is shown, the header, the token, the connection.

import { listen, token, watch } from "./api.js";
import { announce, field, generation, h, icon, Notice, redraw, told } from "./dom.js";
import { question } from "./dialog.js";
import { createGallery } from "./gallery.js";
import { createGenerations } from "./generations.js";
import { showKeys } from "./keys.js";
import { apply, theme, turnTheme } from "./looks.js";
import { createSearch } from "./search.js";
import { change, load, onChange, reloadGenerations, reloadItems, session } from "./session.js";
import { words } from "./words.js";

const main = document.getElementById("content");
const connection = document.getElementById("connection");
const views = {};

/** Show a view: #/search?item=…; with `replace`, the way back does not pass by what was shown before. */
export function go(view, parameters = {}, { replace = false } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") query.append(name, one);
  const hash = `#/${view}${query.size ? `?${query}` : ""}`;
  if (hash === location.hash) return route();
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  return route();
}

function route() {
  const [, name, part, query] = /^#\/(\w+)(?:\/([^?]*))?(?:\?(.*))?$/.exec(location.hash) ?? [null, "search"];
  // As somebody would write the address by hand: #/generations/v2.
  if (part) return go(name, { [name === "search" ? "item" : "name"]: decodeURIComponent(part) }, { replace: true });
  const view = views[name] ?? views.search;
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} – ${session.info?.name ?? "Evergallery"}`;
  if (!main.contains(view.element)) {
    main.replaceChildren(view.element);
    window.scrollTo(0, 0);
  }
  view.show(new URLSearchParams(query));
}

// Who answers, what runs, who one is

function drawHeader() {
  const { info, job, me } = session;
  if (!info) return;
  document.getElementById("name").textContent = info.name;
  const running = job?.state === "running";
  const share = running && job.total ? job.done / job.total : null;
  redraw(
    document.getElementById("standing"),
    running &&
      h("a", { class: "running", href: "#/gallery" }, h("span", { class: "spinner", "aria-hidden": "true" }), words.frame.running(words.jobs.kinds[job.kind] ?? job.kind, share)),
    info.promoted &&
      h("a", { class: "answers", href: `#/generations?name=${encodeURIComponent(info.promoted)}`, title: `${info.promoted} ${words.common.answers_queries}` },
        generation(info.promoted), h("span", { class: "wide" }, words.common.answers_queries)),
    h("button", { type: "button", class: "quiet", title: words.frame.colours(words.frame.themes[theme()]), onclick: () => { announce(words.frame.changed_colours(words.frame.themes[turnTheme()])); drawHeader(); } }, icon({ auto: "half", light: "sun", dark: "moon" }[theme()]), h("span", { class: "unseen" }, words.frame.change_colours(words.frame.themes[theme()]))),
    (!me.anonymous || !me.scopes.includes("admin")) &&
      h("button", { type: "button", class: "quiet", onclick: () => askForToken() }, icon("key"),
        h("span", { class: "wide" }, me.anonymous ? words.frame.read_only : words.frame.scopes[widest(me.scopes)]), h("span", { class: "unseen" }, words.frame.of_token)),
  );
}

const widest = (scopes) => ["admin", "write", "read"].find((scope) => scopes.includes(scope)) ?? "none";

let asking = false;

/** Enter a token, or forget it; `because` is what the server said. */
async function askForToken(because = null) {
  if (asking) return;
  asking = true;
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const notice = new Notice();
  const known = token.get();
  if (because && known) notice.show(because);
  const given = await question(
    because ? words.frame.token_asked : words.frame.token,
    [
      notice.element,
      told(words.frame.token_how),
      field(words.frame.token, input),
      known && h("p", {}, h("button", { type: "button", class: "quiet", onclick: () => { token.set(null); location.reload(); } }, words.frame.forget_token)),
    ],
    {
      confirm: words.frame.use_token,
      ready: () => input.value.trim() !== "",
      run: async () => {
        token.set(input.value.trim());
        try {
          await load();
        } catch (error) {
          token.set(known);
          throw error;
        }
      },
    },
  );
  asking = false;
  if (given) start();
  else if (because) main.replaceChildren(h("div", { class: "locked" }, h("p", {}, words.frame.token_asked), h("button", { type: "button", class: "primary", onclick: () => askForToken(because) }, icon("key"), words.frame.enter_token)));
}

// The connection

function lost() {
  if (connection.childElementCount) return;
  connection.replaceChildren(h("p", {}, h("span", { class: "spinner", "aria-hidden": "true" }), words.server.lost));
}

async function opened() {
  const again = connection.childElementCount > 0;
  connection.replaceChildren();
  if (again) announce(words.server.back);
  if (again || !session.info) await begin();
}

function heard(name, data) {
  if (name === "job") {
    const ended = session.job?.state === "running" && data.state !== "running";
    change({ job: data });
    if (ended) announce(words.jobs.ended(words.jobs.kinds[data.kind] ?? data.kind, data.state, false));
    if (ended) reloadGenerations().catch(() => {});
  } else if (name === "status") {
    const moved = session.status && session.status.items !== data.items;
    change({ status: data });
    if (moved) reloadItems().catch(() => {});
  } else if (name === "promoted" && session.info && session.info.promoted !== data.promoted) {
    announce(words.frame.answers_now(data.promoted));
    reloadGenerations().catch(() => {});
  }
}

// Start

apply();
document.querySelector(".skip").textContent = words.frame.skip;
const navigation = document.querySelector(".top nav");
navigation.setAttribute("aria-label", words.frame.views);
navigation.replaceChildren(...["search", "generations", "gallery"].map((name) => h("a", { href: `#/${name}` }, words[name].title)));

async function begin() {
  try {
    await load();
    start();
  } catch (error) {
    if (error.status === 401) return;
    // Whoever listens tries again.
    if (error.status === 0) throw error;
    main.replaceChildren(h("div", { class: "problem", role: "alert" }, told(error.message)));
  }
}

function start() {
  if (!views.search) Object.assign(views, { search: createSearch(go), generations: createGenerations(go), gallery: createGallery(go) });
  drawHeader();
  route();
  listen.again?.();
}

watch({ unauthorised: (error) => askForToken(error) });
onChange(drawHeader);
// Going back fires this too, since all that changes in the address is behind its #.
window.addEventListener("hashchange", () => session.info && route());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !event.target.closest("input, textarea, select, dialog")) showKeys();
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
  event.preventDefault();
  if (!main.contains(views.search.element)) go("search");
  views.search.focus();
});

listen({ onEvent: heard, onOpen: opened, onLost: lost });
