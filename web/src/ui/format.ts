// Numbers, durations and instants as text.

import type { Counts, ReplayOutcome } from "../api/types";

const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Placeholder for an unknown value. */
export const UNKNOWN = "–";

/** Bytes in decimal units: "48 MB". */
export function formatBytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${UNITS[unit] ?? "B"}`;
}

/** A rate per second as text: "0.5", "5.0", "25", "1,200". */
export function formatRate(perSecond: number): string {
  return perSecond < 9.95 ? perSecond.toFixed(1) : formatCount(perSecond);
}

export function formatCount(value: number): string {
  return Math.round(value).toLocaleString("en");
}

/** A count with its noun: "1 attempt", "3 attempts". */
export function pluralize(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

export const formatResults = (count: number): string => pluralize(count, "result");

/** Outcome of a replay as a sentence. */
export function describeReplay(webhook: string, { queued, rest_from }: ReplayOutcome): string {
  if (rest_from !== null) {
    const since = toDatetimeLocal(Date.parse(rest_from)).replace("T", " ");
    return `Queued ${pluralize(queued, "event")} for ${webhook}; its queue is full. Replay from ${since} later.`;
  }
  return queued === 0 ? `No events to replay to ${webhook}.` : `Queued ${pluralize(queued, "event")} for ${webhook}.`;
}

/** Seconds as "84 ms", "1.2 s", "3 min", "2 h 5 min", "4 d 1 h". */
export function formatDuration(seconds: number): string {
  if (seconds < 0.9995) {
    return `${Math.round(seconds * 1000)} ms`;
  }
  if (seconds < 59.95) {
    return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  }
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) {
    return `${minutes} min`;
  }
  const hours = Math.floor(minutes / 60);
  return hours < 24
    ? twoUnits(hours, "h", minutes % 60, "min")
    : twoUnits(Math.floor(hours / 24), "d", hours % 24, "h");
}

function twoUnits(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** Age of an instant in a single unit, so that the text changes rarely: "just now", "12 s ago", "3 min ago". */
export function formatAge(instant: string | number, now: number): string {
  const age = now - new Date(instant).getTime();
  if (Number.isNaN(age)) {
    return "at an unknown time";
  }
  if (age < 2 * SECOND) {
    return "just now";
  }
  const [length, unit] =
    age < MINUTE ? [SECOND, "s"] : age < HOUR ? [MINUTE, "min"] : age < DAY ? [HOUR, "h"] : [DAY, "d"];
  return `${Math.floor(age / Number(length))} ${unit} ago`;
}

/** Local time of day. */
export function formatTime(instant: string | number): string {
  return new Date(instant).toLocaleTimeString("en-GB");
}

/** Local date and time as the value of `<input type="datetime-local">`: "2026-11-22T14:05". */
export function toDatetimeLocal(instant: number): string {
  const date = new Date(instant);
  return new Date(instant - date.getTimezoneOffset() * MINUTE).toISOString().slice(0, "2026-11-22T14:05".length);
}

/** A machine-readable name as words: "auth_failed" becomes "auth failed". */
export function humanize(name: string): string {
  return name.replaceAll("_", " ");
}

/** Names with their number of occurrences, most frequent first: "3 person, car". */
export function countNames(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => (count === 1 ? name : `${count} ${name}`))
    .join(", ");
}

/** Non-zero counts by reason, highest first: "late 12, spool full 3". */
export function formatReasons(counts: Counts): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => `${humanize(reason)} ${formatCount(count)}`)
    .join(", ");
}
