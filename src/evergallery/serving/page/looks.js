// How the page looks to this person: light or dark, pictures cropped or whole. Kept in this browser, once it was chosen.

const THEME = "evergallery-theme";
const FIT = "evergallery-fit";
const THEMES = ["auto", "light", "dark"];

const root = document.documentElement;

export const theme = () => localStorage.getItem(THEME) ?? "auto";

/** The next of automatic, light and dark; returns its name. */
export function turnTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "auto") localStorage.removeItem(THEME);
  else localStorage.setItem(THEME, next);
  apply();
  return next;
}

export const fitted = () => localStorage.getItem(FIT) === "whole";

/** Show pictures whole, or cropped to squares. */
export function turnFit() {
  if (fitted()) localStorage.removeItem(FIT);
  else localStorage.setItem(FIT, "whole");
  apply();
  return fitted();
}

export function apply() {
  root.style.setProperty("color-scheme", theme() === "auto" ? "light dark" : theme());
  root.classList.toggle("whole-pictures", fitted());
}
