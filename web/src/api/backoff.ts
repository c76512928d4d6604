const INITIAL_MS = 500;
const MAX_MS = 15_000;

/** Delay before the next connection attempt: exponential backoff minus a random share of at most half. */
export function backoffMs(failures: number, random: () => number = Math.random): number {
  const delay = Math.min(MAX_MS, INITIAL_MS * 2 ** Math.min(failures, 10));
  return delay / 2 + (random() * delay) / 2;
}
