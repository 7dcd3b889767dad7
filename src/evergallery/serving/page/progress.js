// The job that runs, or the last one: how far it is, what it found, and how to stop it.

import { ask } from "./api.js";
import { h, Notice, told } from "./dom.js";
import { percent } from "./figures.js";
import { change, missing, session } from "./session.js";
import { words } from "./words.js";

/**
 * A box that shows the job; `draw` it whenever something has changed.
 *
 * @param {(job: object, running: boolean) => boolean} concerns which jobs are shown here.
 */
export function createProgress(concerns) {
  const bar = h("progress", { max: "1", "aria-label": words.jobs.progress });
  const heading = h("p", { class: "job-words" });
  const times = h("div", { class: "faint" });
  const notice = new Notice();
  const stop = h("button", { type: "button", onclick: async () => {
    try {
      change({ job: await ask("DELETE", "job") });
    } catch (error) {
      notice.show(error);
    }
  } }, words.jobs.stop);
  const buttons = h("div", { class: "buttons start" }, stop);
  const element = h("div", { class: "job", hidden: true }, heading, bar, times, notice.element, buttons);

  function draw() {
    const { job } = session;
    const running = job?.state === "running";
    element.hidden = !job || !concerns(job, running);
    if (element.hidden) return;
    element.className = `job ${job.state}`;
    bar.hidden = buttons.hidden = !running;
    const what = words.jobs.of(words.jobs.kinds[job.kind] ?? job.kind, job.arguments?.generation);
    if (running) {
      heading.textContent = words.jobs.running(what, job.phase, job.done, job.total);
      if (job.total) bar.value = job.done / job.total;
      else bar.removeAttribute("value");
      times.textContent = words.jobs.times(job.seconds, job.remaining_seconds);
      const reason = missing("admin", words.jobs.stopping);
      stop.disabled = reason !== null;
      stop.title = reason ?? "";
    } else {
      heading.textContent = words.jobs.ended(what, job.state, job.kind === "refresh" && job.state === "stopped");
      times.replaceChildren(...(job.error ? told(job.error) : [found(job) ?? ""]));
    }
  }

  return { element, draw };
}

/** What a job found, in a sentence; null where the views show it. */
function found({ kind, result, seconds }) {
  if (!result) return null;
  if (kind === "refresh") return words.jobs.refreshed(result, seconds);
  if (kind === "adapt") return words.jobs.adapted(result, percent(result.out_of_sample, 1));
  if (kind === "matrix") return words.jobs.filled(result.checks.length, seconds);
  if (kind === "check") return words.jobs.checked(seconds);
  return null;
}

/** Begin a job; whoever shows it hears of it. */
export async function begin(path, json) {
  change({ job: await ask("POST", path, { json }) });
  return session.job;
}
