// The server: requests with their errors, its events, and pictures that a token protects.

import { words } from "./words.js";

const BASE = new URL("api/v1/", document.baseURI);
const TOKEN = "evergallery-token";
const LONGEST_WAIT = 8000;
/** The server says something every 15 seconds: after this long the line is dead, even if nobody has said so. */
const SILENCE = 45000;

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

const watchers = { unauthorised: () => {} };

/** Who hears that a token is asked for. */
export function watch(changes) {
  Object.assign(watchers, changes);
}

/** Ask the server; what it answers, as JSON. `query` may have lists, whose values are repeated. */
export async function ask(method, path, { query, json, form, signal } = {}) {
  const response = await send(method, path, { query, json, form, signal });
  return response.status === 204 ? null : response.json();
}

async function send(method, path, { query, json, form, signal } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query ?? {}))
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") url.searchParams.append(name, one);
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    const body = json === undefined ? form : JSON.stringify(json);
    response = await fetch(url, { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", words.server.unreachable);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let said = {};
  try {
    said = (await response.json()).error ?? {};
  } catch {
    // A proxy in between answers in HTML: the status is all that is known.
  }
  let message = said.message ?? words.server.status(response.status, response.statusText);
  const wait = response.headers.get("Retry-After");
  if (response.status === 429 && wait && !message.includes("second")) message += ` ${words.server.again_in(wait)}`;
  const error = new ApiError(response.status, said.code ?? "internal", message);
  if (response.status === 401) watchers.unauthorised(error);
  return error;
}

/**
 * Listen to the server's events for as long as the page is open; a lost connection is made again.
 * Requests of EventSource cannot carry a token, hence the reading by hand.
 */
export async function listen({ onEvent, onOpen, onLost }) {
  let wait = 500;
  for (;;) {
    const line = new AbortController();
    try {
      const response = await send("GET", "events", { signal: line.signal });
      await onOpen();
      wait = 500;
      for await (const event of eventsOf(response.body, line)) onEvent(event.name, event.data);
    } catch (error) {
      if (error.status === 401) {
        await new Promise((resolve) => (listen.again = resolve));
        continue;
      }
    }
    onLost();
    await new Promise((resolve) => {
      listen.again = resolve;
      setTimeout(resolve, wait);
    });
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

async function* eventsOf(body, line) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = "";
  try {
    for (;;) {
      const dead = setTimeout(() => line.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(dead));
      if (done) return;
      text += decoder.decode(value, { stream: true }).replaceAll("\r\n", "\n");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const values = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
        if (values("data").length) yield { name: values("event")[0] ?? "message", data: JSON.parse(values("data").join("\n")) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** An item's picture itself. */
export const picture = (item, size) => send("GET", "thumbnail", { query: { id: item.id, size } }).then((response) => response.blob());

/** An item's picture; it is fetched when it comes into sight, with the token where there is one. */
export function thumbnail(item, size = 256, alternative = item.label ?? item.id) {
  const image = document.createElement("img");
  image.alt = alternative;
  image.decoding = "async";
  image.width = image.height = size;
  image.addEventListener("error", () => image.classList.add("gone"));
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 64));
  if (!item.thumbnail) {
    image.classList.add("gone");
    return image;
  }
  const url = new URL("thumbnail", BASE);
  url.searchParams.set("id", item.id);
  url.searchParams.set("size", size);
  if (token.get()) sight.observe(Object.assign(image, { wanted: url }));
  else Object.assign(image, { loading: "lazy", src: url });
  return image;
}

const sight = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      sight.unobserve(target);
      send("GET", target.wanted.href)
        .then((response) => response.blob())
        .then((blob) => {
          target.addEventListener("load", () => URL.revokeObjectURL(target.src), { once: true });
          target.src = URL.createObjectURL(blob);
        })
        .catch(() => target.classList.add("gone"));
    }
  },
  { rootMargin: "200px" },
);
