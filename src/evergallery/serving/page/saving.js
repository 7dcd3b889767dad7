// What was found as a file: a table, JSON, or an archive with the pictures.

import { picture } from "./api.js";

const COLUMNS = ["place", "id", "label", "score", "probability", "generation", "uri", "added", "metadata"];
const SIDE = 1024;
const TOGETHER = 6;

const rows = (results) =>
  results.map(({ item, score, probability }, index) => ({
    place: index + 1, id: item.id, label: item.label, score, probability, generation: item.generation, uri: item.uri, added: item.added, metadata: item.metadata,
  }));

/** A table by RFC 4180; what a spreadsheet would take for a formula is not one. */
export function csv(results) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [COLUMNS, ...rows(results).map((row) => COLUMNS.map((name) => row[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

export const json = (results) => `${JSON.stringify(rows(results), null, 2)}\n`;

/**
 * An archive of the table and the pictures, as the server shows them: WebP, up to 1,024 pixels on the longer side.
 *
 * @param {object[]} results
 * @param {(done: number) => void} told hears how many pictures are there.
 */
export async function zip(results, told) {
  const files = [{ name: "results.csv", bytes: new TextEncoder().encode(csv(results)) }, { name: "results.json", bytes: new TextEncoder().encode(json(results)) }];
  const waiting = results.map(({ item }, index) => ({ item, index })).filter(({ item }) => item.thumbnail);
  let done = 0;
  const take = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      const bytes = await picture(one.item, SIDE).then((blob) => blob.arrayBuffer(), () => null);
      if (bytes) files.push({ name: `pictures/${String(one.index + 1).padStart(4, "0")} ${plain(one.item.label ?? one.item.id)}.webp`, bytes: new Uint8Array(bytes) });
      told(++done);
    }
  };
  await Promise.all(Array.from({ length: TOGETHER }, take));
  return archive(files);
}

const plain = (name) => name.replace(/[^\p{L}\p{N} _.-]+/gu, "_").slice(0, 60);

/** Hand a file to whoever sits there. */
export function save(content, name, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A ZIP archive of stored files: pictures do not get smaller.

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let rest = number;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest >>> 0;
});

function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

/** Little-endian numbers of 2 or 4 bytes: [[width, value], …]. */
function numbers(fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [width]) => sum + width, 0)));
  let place = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(place, value, true);
    else view.setUint32(place, value, true);
    place += width;
  }
  return new Uint8Array(view.buffer);
}

function archive(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const title = new TextEncoder().encode(name);
    // Version 2.0, names in UTF-8, stored; 1 January 2020, midnight.
    const common = [[2, 20], [2, 0x0800], [2, 0], [2, 0], [2, 0x5021], [4, checksum(bytes)], [4, bytes.length], [4, bytes.length], [2, title.length], [2, 0]];
    const head = numbers([[4, 0x04034b50], ...common]);
    parts.push(head, title, bytes);
    directory.push(numbers([[4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), title);
    offset += head.length + title.length + bytes.length;
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = numbers([[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
