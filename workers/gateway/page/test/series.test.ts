import { expect, test } from "vitest";
import type { History } from "../src/hub/model";
import { largest, Series } from "../src/pages/series";
import { camera } from "./cameras";

function remembered(points: number): History {
  const column = Array.from({ length: points }, (_, place) => place);
  return {
    every_s: 2,
    until: "2026-11-22T14:00:00Z",
    rate_in: column,
    rate_out: column,
    age_p50_s: column,
    age_p99_s: column,
    round_trip_p50_s: column.map(() => null),
    dropped_per_s: column,
    dropped_by_reason_per_s: { late: column },
  };
}

const UNTIL = Date.parse("2026-11-22T14:00:00Z") / 1000;

test("what the hub remembers ends where it says, and goes on live", () => {
  const series = new Series(remembered(3));
  series.append(camera("a", { dropped: { late: 4 } }), UNTIL + 2);
  series.append(camera("a", { dropped: { late: 10 }, age_s: { p50: 0.1, p99: 0.2 } }), UNTIL + 4);
  expect(series.times).toEqual([UNTIL - 4, UNTIL - 2, UNTIL, UNTIL + 2, UNTIL + 4]);
  expect(series.values.dropped_per_s).toEqual([0, 1, 2, null, 3]);
  expect(series.values.age_p99_s).toEqual([0, 1, 2, null, 0.2]);
  expect([...series.dropped]).toEqual([["late", [0, 1, 2, null, 3]]]);
});

test("a reason that has not occurred before has dropped nothing before", () => {
  const series = new Series(remembered(2));
  series.append(camera("a", { dropped: { late: 4 } }), UNTIL + 2);
  series.append(camera("a", { dropped: { late: 4, uplink: 6 } }), UNTIL + 4);
  expect(Object.fromEntries(series.dropped)).toEqual({ late: [0, 1, null, 0], uplink: [0, 0, null, 3] });
  expect(series.values.dropped_per_s.at(-1)).toBe(3);
});

test("a chart has so many lines at most, the last one for all others", () => {
  const columns = new Map([
    ["torn", [1, null]],
    ["late", [9, null]],
    ["uplink", [2, null]],
  ]);
  expect([...largest(columns, 3).keys()]).toEqual(["late", "uplink", "torn"]);
  expect([...largest(columns, 2)]).toEqual([
    ["late", [9, null]],
    ["others", [3, null]],
  ]);
});

test("a clock that is behind the hub's adds nothing that would run backwards", () => {
  const series = new Series(remembered(3));
  series.append(camera("a"), UNTIL - 60);
  expect(series.times.at(-1)).toBe(UNTIL);
});

test("half an hour is kept, every column alike", () => {
  const series = new Series(remembered(900));
  series.append(camera("a"), UNTIL + 2);
  expect(series.times.length).toBe(900);
  const columns = [...Object.values(series.values), ...series.dropped.values()];
  expect(new Set(columns.map(({ length }) => length))).toEqual(new Set([900]));
});
