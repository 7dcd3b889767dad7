// The words of the page in the language that was chosen; English where that language has none.

import { language } from "./language.js";
import english from "./words/en.js";

const other = language === "en" ? {} : (await import(`./words/${language}.js`)).default;

/** Every section of the English words, with what another language says in its place. */
export const words = Object.fromEntries(Object.entries(english).map(([section, said]) => [section, { ...said, ...other[section] }]));
