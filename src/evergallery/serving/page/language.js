// The language of the page: what its address asks for (?lang=de), or else the first of the browser's that there are words for.

import { LANGUAGES } from "./words/languages.js";

const FALLBACK = "en";

const base = (tag) => tag.toLowerCase().split("-")[0];
const asked = [new URLSearchParams(location.search).get("lang"), ...navigator.languages].filter(Boolean);

export const language = asked.map(base).find((tag) => LANGUAGES.includes(tag)) ?? FALLBACK;

/** How numbers and dates are written: as where the browser is, if it speaks this language there. British English by default. */
export const locale = navigator.languages.find((tag) => base(tag) === language && language !== FALLBACK) ?? (language === FALLBACK ? "en-GB" : language);

document.documentElement.lang = language;
