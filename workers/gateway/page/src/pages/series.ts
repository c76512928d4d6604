// One camera's last half an hour as columns for charts: what the hub remembers, and then what comes live. Pure.

import { type Camera, type History, total } from "../hub/model";

export const COLUMNS = ["rate_in", "rate_out", "age_p50_s", "age_p99_s", "round_trip_p50_s", "dropped_per_s"] as const;
export type Column = (typeof COLUMNS)[number];
type Values = Record<Column, (number | null)[]>;

const POINTS = 900;

export class Series {
  /** Seconds since the epoch. */
  readonly times: number[] = [];
  readonly values = Object.fromEntries(COLUMNS.map((name) => [name, []])) as unknown as Values;
  private dropped: { readonly count: number; readonly at: number } | null = null;

  constructor(history: History) {
    const until = Date.parse(history.until) / 1000;
    const length = Math.min(POINTS, history.rate_in.length);
    for (let back = length - 1; back >= 0; back -= 1) {
      this.times.push(until - back * history.every_s);
    }
    for (const name of COLUMNS) {
      this.values[name].push(...history[name].slice(-length));
    }
  }

  /** The camera as it is now, seconds since the epoch. */
  append(camera: Camera, now: number): void {
    const last = this.times[this.times.length - 1];
    if (last !== undefined && now <= last) {
      return; // the clocks of the hub and of this machine differ; they meet again
    }
    this.times.push(now);
    this.values.rate_in.push(camera.rate_in);
    this.values.rate_out.push(camera.rate_out);
    this.values.age_p50_s.push(camera.age_s?.p50 ?? null);
    this.values.age_p99_s.push(camera.age_s?.p99 ?? null);
    this.values.round_trip_p50_s.push(camera.round_trip_s?.p50 ?? null);
    this.values.dropped_per_s.push(this.droppedPerSecond(total(camera.dropped), now));
    for (const column of [this.times, ...Object.values(this.values)]) {
      column.splice(0, column.length - POINTS);
    }
  }

  private droppedPerSecond(count: number, at: number): number | null {
    const before = this.dropped;
    this.dropped = { count, at };
    return before === null || at <= before.at ? null : Math.max(0, count - before.count) / (at - before.at);
  }
}
