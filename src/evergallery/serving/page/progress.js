// The job that runs, or the last one: how far it is, what it found, and how to stop it.

import { ask } from "./api.js";
import { capital, count, counted, duration, h, Notice, percent, prose, withoutCommands } from "./dom.js";
import { change, missing, session } from "./session.js";

/**
 * A box that shows the job; `draw` it whenever something has changed.
 *
 * @param {(job: object, running: boolean) => boolean} concerns which jobs are shown here.
 */
export function createProgress(concerns) {
  const bar = h("progress", { max: "1", "aria-label": "Progress" });
  const words = h("p", { class: "job-words" });
  const times = h("p", { class: "faint" });
  const notice = new Notice();
  const stop = h("button", { type: "button", onclick: async () => {
    try {
      change({ job: await ask("DELETE", "job") });
    } catch (error) {
      notice.show(error);
    }
  } }, "Stop");
  const buttons = h("div", { class: "buttons start" }, stop);
  const element = h("div", { class: "job", hidden: true }, words, bar, times, notice.element, buttons);

  function draw() {
    const { job } = session;
    const running = job?.state === "running";
    element.hidden = !job || !concerns(job, running);
    if (element.hidden) return;
    element.className = `job ${job.state}`;
    bar.hidden = buttons.hidden = !running;
    const aim = job.arguments?.generation ? ` for ${job.arguments.generation}` : "";
    if (running) {
      words.textContent = `${capital(job.kind)}${aim}: ${job.phase || "starting"}${job.total ? `, ${count(job.done)} of ${count(job.total)}` : ""}`;
      if (job.total) bar.value = job.done / job.total;
      else bar.removeAttribute("value");
      times.textContent = `${duration(job.seconds)} so far${job.remaining_seconds === null ? "" : `, about ${duration(job.remaining_seconds)} left`}.`;
      stop.disabled = missing("admin", "stopping") !== null;
      stop.title = missing("admin", "stopping") ?? "";
    } else {
      words.textContent = `${capital(job.kind)}${aim} ${ENDS[job.state] ?? "was stopped"}${job.kind === "refresh" && job.state === "stopped" ? "; it can go on from there" : ""}.`;
      times.replaceChildren(...prose(job.error ? withoutCommands(job.error) : (found(job) ?? "")).flat());
    }
  }

  return { element, draw };
}

const ENDS = { done: "is done", failed: "has failed" };

/** What a job found, in a sentence; null where the views show it. */
function found({ kind, result, seconds }) {
  if (!result) return null;
  if (kind === "refresh") return `${counted(result.refreshed, "item")} refreshed in ${duration(seconds)}, ${count(result.remaining)} left${result.problems ? `, ${counted(result.problems, "problem")}` : ""}.`;
  if (kind === "adapt") return `${result.adapter} (${result.kind}) was fitted to ${counted(result.pairs, "picture")}: recall@1 ${percent(result.out_of_sample, 1)} on those that it has not seen. It serves once a check has shown that it may.`;
  if (kind === "matrix") return `${counted(result.checks.length, "pair")} measured in ${duration(seconds)}.`;
  if (kind === "check") return `Measured in ${duration(seconds)}.`;
  return null;
}

/** Begin a job; whoever shows it hears of it. */
export async function begin(path, json) {
  const job = await ask("POST", path, { json });
  change({ job });
  return job;
}
