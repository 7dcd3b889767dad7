// Questions in front of the page: what will change, and whether it may.

import { h, Notice } from "./dom.js";
import { words } from "./words.js";

/**
 * Ask before something is done; the dialog stays, and says why, where it could not be done.
 *
 * @param {string} title
 * @param {Node[]} body
 * @param {{confirm: string, danger?: boolean | () => boolean, ready?: () => boolean, run: () => Promise, kind?: string}} action
 * @returns {Promise<boolean>} whether it was done.
 */
export function question(title, body, { confirm, danger = false, ready = () => true, run, kind = "" }) {
  const notice = new Notice();
  const button = h("button", { type: "submit" }, confirm);
  const look = () => {
    button.className = (typeof danger === "function" ? danger() : danger) ? "danger" : "primary";
    button.disabled = !ready();
  };
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        if (!ready()) return;
        notice.clear();
        button.disabled = true;
        try {
          await run();
          dialog.close("done");
        } catch (error) {
          notice.show(error);
        } finally {
          look();
        }
      },
      oninput: look,
    },
    body,
    notice.element,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, words.common.cancel), button),
  );
  look();
  const { dialog, closed } = open(title, [form], kind);
  return closed.then(() => dialog.returnValue === "done");
}

/** Something to look at; closed by Escape, by its button, or by a press beside it. */
export function open(title, body, kind = "") {
  const heading = h("h2", { id: `dialog-${(open.count = (open.count ?? 0) + 1)}` }, title);
  const dialog = h(
    "dialog",
    { class: kind, "aria-labelledby": heading.id },
    h("div", { class: "dialog-body" }, heading, body),
  );
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.addEventListener("mousedown", (event) => event.target === dialog && dialog.close());
  const closed = new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      dialog.remove();
      // What was pressed is mostly gone by what it did: the keyboard then goes on from the top of the view.
      if (before?.isConnected && dialog.returnValue !== "done") before.focus();
      else document.getElementById("content").focus({ preventScroll: true });
      resolve();
    }),
  );
  dialog.showModal();
  return { dialog, closed };
}
