// Right and wrong: what people say of results, kept by the server for the next check.

import { ask } from "./api.js";

/**
 * Marks of one query; known once they were asked for.
 *
 * @param {{item: ?string, picture: ?Blob}} query a stored item, or a picture, which is sent with its first mark.
 */
export class Marks {
  constructor({ item, picture }) {
    Object.assign(this, { item, picture, said: new Map() });
  }

  /** Ask what was said before; a picture that nobody has marked is not known. */
  async load() {
    if (!this.item) return;
    const { marks } = await ask("GET", "marks", { query: { query: this.item } });
    this.said = new Map(marks.map(({ item, right }) => [item, right]));
  }

  of(id) {
    return this.said.get(id) ?? null;
  }

  /** Say it; the same again takes it back. */
  async say(id, right) {
    if (!this.item) {
      const form = new FormData();
      form.append("image", this.picture, this.picture.name || "pasted.png");
      this.item = (await ask("POST", "marks/picture", { form })).query;
    }
    const { marks } = await ask("POST", "marks", { json: { query: this.item, item: id, right: this.of(id) === right ? null : right } });
    this.said = new Map(marks.map((one) => [one.item, one.right]));
  }
}
