import { expect, test } from "vitest";
import type { History } from "../src/api/types";
import { HistorySeries, largestColumns } from "../src/pages/camera/history_series";
import { camera } from "./fixtures";

function history(points: number): History {
  const column = Array.from({ length: points }, (_, index) => index);
  return {
    every_s: 2,
    until: "2026-11-22T14:00:00Z",
    rate_in: column,
    rate_out: column,
    age_p50_s: column,
    age_p99_s: column,
    round_trip_p50_s: column.map(() => null),
    dropped_per_s: column,
    dropped: { late: 2 },
    dropped_by_reason_per_s: { late: column },
  };
}

const UNTIL = Date.parse("2026-11-22T14:00:00Z") / 1000;

test("continues the history with live samples", () => {
  const series = new HistorySeries(history(3));
  series.append(camera("a", { dropped: { late: 4 } }), UNTIL + 2);
  series.append(camera("a", { dropped: { late: 10 }, age_s: { p50: 0.1, p99: 0.2 } }), UNTIL + 4);
  expect(series.times).toEqual([UNTIL - 4, UNTIL - 2, UNTIL, UNTIL + 2, UNTIL + 4]);
  expect(series.values.dropped_per_s).toEqual([0, 1, 2, 1, 3]);
  expect(series.values.age_p99_s).toEqual([0, 1, 2, null, 0.2]);
  expect([...series.dropped]).toEqual([["late", [0, 1, 2, 1, 3]]]);
});

test("frames dropped since the newest point of the history appear in the first live sample", () => {
  const series = new HistorySeries(history(2));
  series.append(camera("a", { dropped: { late: 2, overwritten: 6 } }), UNTIL + 2);
  expect(series.dropped.get("overwritten")).toEqual([0, 0, 3]);
});

test("the first live sample has no rates if the history has no counts", () => {
  const series = new HistorySeries({ ...history(2), dropped: null });
  series.append(camera("a", { dropped: { late: 1000 } }), UNTIL + 2);
  expect(series.values.dropped_per_s).toEqual([0, 1, null]);
});

test("a new drop reason starts with zeros", () => {
  const series = new HistorySeries(history(2));
  series.append(camera("a", { dropped: { late: 4 } }), UNTIL + 2);
  series.append(camera("a", { dropped: { late: 4, uplink: 6 } }), UNTIL + 4);
  expect(Object.fromEntries(series.dropped)).toEqual({ late: [0, 1, 1, 0], uplink: [0, 0, 0, 3] });
  expect(series.values.dropped_per_s.at(-1)).toBe(3);
});

test("limits the columns and adds up the rest as others", () => {
  const columns = new Map([
    ["torn", [1, null]],
    ["late", [9, null]],
    ["uplink", [2, null]],
  ]);
  expect([...largestColumns(columns, 3).keys()]).toEqual(["late", "uplink", "torn"]);
  expect([...largestColumns(columns, 2)]).toEqual([
    ["late", [9, null]],
    ["others", [3, null]],
  ]);
});

test("skips samples while this machine's clock is behind the hub's", () => {
  const series = new HistorySeries(history(3));
  series.append(camera("a"), UNTIL - 60);
  expect(series.times.at(-1)).toBe(UNTIL);
});

test("keeps 30 minutes in every column", () => {
  const series = new HistorySeries(history(900));
  series.append(camera("a"), UNTIL + 2);
  expect(series.times.length).toBe(900);
  const columns = [...Object.values(series.values), ...series.dropped.values()];
  expect(new Set(columns.map(({ length }) => length))).toEqual(new Set([900]));
});
