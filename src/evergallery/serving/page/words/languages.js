// Which languages there are words for: each has a file beside this one.

export const LANGUAGES = ["en"];
