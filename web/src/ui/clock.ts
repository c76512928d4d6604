import { signal } from "@preact/signals";

/** Current time in milliseconds since the epoch, updated every second. */
export const now = signal(Date.now());

setInterval(() => {
  now.value = Date.now();
}, 1000);
