const FIRST_MS = 500;
const CAP_MS = 15_000;

/** How long to wait before the next attempt, after so many failed: full jitter, but never less than half of it. */
export function delayMs(failed: number, random: () => number = Math.random): number {
  const most = Math.min(CAP_MS, FIRST_MS * 2 ** Math.min(failed, 10));
  return most / 2 + (random() * most) / 2;
}
