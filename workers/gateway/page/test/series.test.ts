import { expect, test } from "vitest";
import type { History } from "../src/hub/model";
import { Series } from "../src/pages/series";
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
  expect(new Set(Object.values(series.values).map(({ length }) => length))).toEqual(new Set([900]));
});
