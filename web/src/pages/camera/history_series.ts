// A camera's last 30 minutes as chart columns: the hub's history and, after it, live samples. Has no side effects.

import type { Camera, Counts, History } from "../../api/types";

export const COLUMNS = ["rate_in", "rate_out", "age_p50_s", "age_p99_s", "round_trip_p50_s", "dropped_per_s"] as const;
export type Column = (typeof COLUMNS)[number];
type Points = (number | null)[];

const MAX_POINTS = 900;

export class HistorySeries {
  /** Seconds since the epoch. */
  readonly times: number[] = [];
  readonly values = Object.fromEntries(COLUMNS.map((name) => [name, []])) as unknown as Record<Column, Points>;
  /** Dropped frames per second by reason, only for reasons that occurred. */
  readonly dropped = new Map<string, Points>();
  private previous: { readonly dropped: Counts; readonly at: number } | null = null;

  constructor(history: History) {
    const until = Date.parse(history.until) / 1000;
    const length = Math.min(MAX_POINTS, history.rate_in.length);
    for (let steps = length - 1; steps >= 0; steps -= 1) {
      this.times.push(until - steps * history.every_s);
    }
    for (const name of COLUMNS) {
      this.values[name].push(...history[name].slice(-length));
    }
    for (const [reason, points] of Object.entries(history.dropped_by_reason_per_s)) {
      this.dropped.set(reason, points.slice(-length));
    }
    if (history.dropped !== null) {
      this.previous = { dropped: history.dropped, at: until };
    }
  }

  /** Append a sample; `now` is in seconds since the epoch. */
  append(camera: Camera, now: number): void {
    const last = this.times[this.times.length - 1];
    if (last !== undefined && now <= last) {
      return; // this machine's clock is behind the hub's; skip samples until the clock has caught up
    }
    this.appendDropped(camera.dropped, now);
    this.times.push(now);
    this.values.rate_in.push(camera.rate_in);
    this.values.rate_out.push(camera.rate_out);
    this.values.age_p50_s.push(camera.age_s?.p50 ?? null);
    this.values.age_p99_s.push(camera.age_s?.p99 ?? null);
    this.values.round_trip_p50_s.push(camera.round_trip_s?.p50 ?? null);
    for (const column of [this.times, ...Object.values(this.values), ...this.dropped.values()]) {
      column.splice(0, column.length - MAX_POINTS);
    }
  }

  private appendDropped(counts: Counts, at: number): void {
    const { previous } = this;
    this.previous = { dropped: counts, at };
    const elapsed = previous === null ? 0 : at - previous.at;
    const rate = (reason: string): number | null =>
      elapsed > 0 ? Math.max(0, (counts[reason] ?? 0) - (previous?.dropped[reason] ?? 0)) / elapsed : null;
    for (const reason of Object.keys(counts)) {
      if ((rate(reason) ?? 0) > 0 && !this.dropped.has(reason)) {
        const earlier = this.values.dropped_per_s.map((value) => (value === null ? null : 0));
        this.dropped.set(reason, earlier);
      }
    }
    for (const [reason, points] of this.dropped) {
      points.push(rate(reason));
    }
    const all = Object.keys(counts).reduce((sum, reason) => sum + (rate(reason) ?? 0), 0);
    this.values.dropped_per_s.push(elapsed > 0 ? all : null);
  }
}

/** Return at most `max` columns: the ones with the largest sums, and "others" with the sum of the rest. */
export function largestColumns(columns: ReadonlyMap<string, Points>, max: number): ReadonlyMap<string, Points> {
  const sum = (points: Points) => points.reduce<number>((all, value) => all + (value ?? 0), 0);
  const ranked = [...columns].sort(([, a], [, b]) => sum(b) - sum(a));
  if (ranked.length <= max) {
    return new Map(ranked);
  }
  const rest = ranked.slice(max - 1).map(([, points]) => points);
  const others = (rest[0] ?? []).map((value, index) =>
    value === null ? null : rest.reduce((all, points) => all + (points[index] ?? 0), 0),
  );
  return new Map([...ranked.slice(0, max - 1), ["others", others]]);
}
