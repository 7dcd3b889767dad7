// What all views know of the server: who one is, what it is, where it stands.

import { ask } from "./api.js";
import { words } from "./words.js";

export const session = { me: null, info: null, status: null, job: null, generations: [], labels: {}, metadata: {} };

const listeners = new Set();

/** Hear of changes; returns how to stop. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function change(values) {
  // The answer to the request that began a job may arrive after the event of its end, which holds.
  const known = session.job;
  if (values.job?.state === "running" && known?.id === values.job.id && known.state !== "running") values = { ...values, job: known };
  Object.assign(session, values);
  for (const listener of listeners) listener(values);
}

/** Read everything anew: at the start, after a lost connection, with another token. */
export async function load() {
  const me = await ask("GET", "me");
  const [info, status, generations, labels] = await Promise.all(
    ["info", "status", "generations", "labels"].map((path) => ask("GET", path)),
  );
  change({ me, info, status, generations: generations.generations, labels: labels.labels });
  loadMetadata();
}

/** Nobody waits for it: of a large gallery it takes its time, and only filters want it. */
function loadMetadata() {
  ask("GET", "metadata").then(({ names }) => change({ metadata: names }), () => {});
}

/** After items came or went. */
export async function reloadItems() {
  const [info, status, labels] = await Promise.all(["info", "status", "labels"].map((path) => ask("GET", path)));
  change({ info, status, labels: labels.labels });
  loadMetadata();
}

/** After another generation was promoted, or vectors have moved. */
export async function reloadGenerations() {
  const [info, status, generations] = await Promise.all(["info", "status", "generations"].map((path) => ask("GET", path)));
  change({ info, status, generations: generations.generations });
}

export const can = (scope) => session.me?.scopes.includes(scope) ?? false;

/** Why a button is out of use, or null. */
export function missing(scope, verb) {
  if (can(scope)) return null;
  return session.me?.anonymous ? words.common.read_only(verb, scope) : words.common.no_scope(verb, scope);
}
