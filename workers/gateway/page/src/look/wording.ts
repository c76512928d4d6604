// Numbers, durations and instants as people read them.

import type { Replayed } from "../hub/model";

const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** In decimal units: "48 MB". */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${UNITS[unit] ?? "B"}`;
}

/** "0.5", "5.0", "25", "1,200" */
export function rate(perSecond: number): string {
  return perSecond < 9.95 ? perSecond.toFixed(1) : count(Math.round(perSecond));
}

export function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}

export function results(many: number): string {
  return many === 1 ? "1 result" : `${count(many)} results`;
}

/** What became of a replay, as a sentence. */
export function replayed(webhook: string, { queued, rest_from }: Replayed): string {
  if (rest_from !== null) {
    const since = localMinute(Date.parse(rest_from)).replace("T", " ");
    return `${results(queued)} wait for ${webhook}, which is all it has room for; replay since ${since} later.`;
  }
  if (queued === 0) {
    return `There is nothing to deliver to ${webhook} again.`;
  }
  return `${results(queued)} ${queued === 1 ? "is" : "are"} delivered to ${webhook} again.`;
}

/** "1 attempt", "3 attempts" */
export function attempts(many: number): string {
  return many === 1 ? "1 attempt" : `${count(many)} attempts`;
}

/** A duration in seconds: "84 ms", "1.2 s", "3 min", "2 h 5 min", "4 d 1 h". */
export function duration(seconds: number): string {
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
  return hours < 24 ? joined(hours, "h", minutes % 60, "min") : joined(Math.floor(hours / 24), "d", hours % 24, "h");
}

function joined(many: number, unit: string, few: number, smaller: string): string {
  return few === 0 ? `${many} ${unit}` : `${many} ${unit} ${few} ${smaller}`;
}

/** How long ago an instant was, coarsely enough to stand still: "just now", "12 s ago", "3 min ago". */
export function ago(instant: string | number, now: number): string {
  const passed = now - new Date(instant).getTime();
  if (Number.isNaN(passed)) {
    return "at an unknown time";
  }
  if (passed < 2 * SECOND) {
    return "just now";
  }
  const [length, unit] =
    passed < MINUTE ? [SECOND, "s"] : passed < HOUR ? [MINUTE, "min"] : passed < DAY ? [HOUR, "h"] : [DAY, "d"];
  return `${Math.floor(passed / Number(length))} ${unit} ago`;
}

/** The time of day, in this machine's zone. */
export function clock(instant: string | number): string {
  return new Date(instant).toLocaleTimeString("en-GB");
}

/** An instant as `<input type="datetime-local">` has it, in this machine's zone: "2026-11-22T14:05". */
export function localMinute(instant: number): string {
  const date = new Date(instant);
  return new Date(instant - date.getTimezoneOffset() * MINUTE).toISOString().slice(0, "2026-11-22T14:05".length);
}

/** "auth_failed" as "auth failed". */
export function spoken(name: string): string {
  return name.replaceAll("_", " ");
}

/** "3 person, car": what was found, the most frequent first. */
export function tallied(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => (count === 1 ? name : `${count} ${name}`))
    .join(", ");
}
