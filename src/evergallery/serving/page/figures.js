// Figures as they are written in the language of the page.

import { locale } from "./language.js";

const whole = new Intl.NumberFormat(locale);
const decimals = new Map();

export const count = (number) => whole.format(number);

/** With so many digits after the point. */
export function decimal(number, digits = 0) {
  if (!decimals.has(digits)) decimals.set(digits, new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  return decimals.get(digits).format(number);
}

export const percent = (share, digits = 0) => `${decimal(100 * share, digits)}\u00a0%`;

/** A difference of shares in points, with its sign. */
export const points = (share) => `${share < 0 ? "−" : "+"}${decimal(Math.abs(100 * share), 1)}`;

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit++) number /= 1024;
  return `${decimal(number, number < 10 && unit ? 1 : 0)} ${units[unit]}`;
}

export function moment(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? String(time) : date.toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
}
