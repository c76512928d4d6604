import { signal } from "@preact/signals";

/** The present, of `Date.now()`, a second at a time. */
export const now = signal(Date.now());

setInterval(() => {
  now.value = Date.now();
}, 1000);
