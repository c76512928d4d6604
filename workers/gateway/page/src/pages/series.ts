// One camera's last half an hour as columns for charts: what the hub remembers, and then what comes live. Pure.

import type { Camera, Counts, History } from "../hub/model";

export const COLUMNS = ["rate_in", "rate_out", "age_p50_s", "age_p99_s", "round_trip_p50_s", "dropped_per_s"] as const;
export type Column = (typeof COLUMNS)[number];
type Points = (number | null)[];

const POINTS = 900;

export class Series {
  /** Seconds since the epoch. */
  readonly times: number[] = [];
  readonly values = Object.fromEntries(COLUMNS.map((name) => [name, []])) as unknown as Record<Column, Points>;
  /** Pictures dropped a second, by reason, of those that have occurred. */
  readonly dropped = new Map<string, Points>();
  private counted: { readonly dropped: Counts; readonly at: number } | null = null;

  constructor(history: History) {
    const until = Date.parse(history.until) / 1000;
    const length = Math.min(POINTS, history.rate_in.length);
    for (let back = length - 1; back >= 0; back -= 1) {
      this.times.push(until - back * history.every_s);
    }
    for (const name of COLUMNS) {
      this.values[name].push(...history[name].slice(-length));
    }
    for (const [reason, points] of Object.entries(history.dropped_by_reason_per_s)) {
      this.dropped.set(reason, points.slice(-length));
    }
  }

  /** The camera as it is now, seconds since the epoch. */
  append(camera: Camera, now: number): void {
    const last = this.times[this.times.length - 1];
    if (last !== undefined && now <= last) {
      return; // the clocks of the hub and of this machine differ; they meet again
    }
    this.appendDropped(camera.dropped, now);
    this.times.push(now);
    this.values.rate_in.push(camera.rate_in);
    this.values.rate_out.push(camera.rate_out);
    this.values.age_p50_s.push(camera.age_s?.p50 ?? null);
    this.values.age_p99_s.push(camera.age_s?.p99 ?? null);
    this.values.round_trip_p50_s.push(camera.round_trip_s?.p50 ?? null);
    for (const column of [this.times, ...Object.values(this.values), ...this.dropped.values()]) {
      column.splice(0, column.length - POINTS);
    }
  }

  private appendDropped(counts: Counts, at: number): void {
    const before = this.counted;
    this.counted = { dropped: counts, at };
    const elapsed = before === null ? 0 : at - before.at;
    const rate = (reason: string): number | null =>
      elapsed > 0 ? Math.max(0, (counts[reason] ?? 0) - (before?.dropped[reason] ?? 0)) / elapsed : null;
    for (const reason of Object.keys(counts)) {
      if ((rate(reason) ?? 0) > 0 && !this.dropped.has(reason)) {
        this.dropped.set(
          reason,
          this.values.dropped_per_s.map((known) => (known === null ? null : 0)),
        );
      }
    }
    for (const [reason, points] of this.dropped) {
      points.push(rate(reason));
    }
    const all = Object.keys(counts).reduce((sum, reason) => sum + (rate(reason) ?? 0), 0);
    this.values.dropped_per_s.push(elapsed > 0 ? all : null);
  }
}

/** The columns of a chart of so many lines at most: those with the most in them, and the others in sum. */
export function largest(columns: ReadonlyMap<string, Points>, most: number): ReadonlyMap<string, Points> {
  const sum = (points: Points) => points.reduce<number>((all, value) => all + (value ?? 0), 0);
  const ranked = [...columns].sort(([, a], [, b]) => sum(b) - sum(a));
  if (ranked.length <= most) {
    return new Map(ranked);
  }
  const rest = ranked.slice(most - 1).map(([, points]) => points);
  const others = (rest[0] ?? []).map((value, place) =>
    value === null ? null : rest.reduce((all, points) => all + (points[place] ?? 0), 0),
  );
  return new Map([...ranked.slice(0, most - 1), ["others", others]]);
}
