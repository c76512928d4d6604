import { expect, test } from "vitest";
import { backoffMs } from "../src/api/backoff";
import {
  countNames,
  describeReplay,
  formatAge,
  formatBytes,
  formatDuration,
  formatRate,
  formatReasons,
  toDatetimeLocal,
} from "../src/ui/format";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1500, "1.5 kB"],
  [48_300_000, "48 MB"],
  [999_700, "1.0 MB"],
  [2.1e9, "2.1 GB"],
])("formats %d bytes as %s", (count, text) => {
  expect(formatBytes(count)).toBe(text);
});

test.each([
  [0.0842, "84 ms"],
  [0.9996, "1.0 s"],
  [1.24, "1.2 s"],
  [59.96, "1 min"],
  [3599, "1 h"],
  [7500, "2 h 5 min"],
  [90_000, "1 d 1 h"],
])("formats %d seconds as %s", (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});

test.each([
  [0.5, "0.5"],
  [9.97, "10"],
  [1234.4, "1,234"],
])("formats %d per second as %s", (perSecond, text) => {
  expect(formatRate(perSecond)).toBe(text);
});

test("formats the age of an instant, and a future instant as just now", () => {
  const now = Date.parse("2026-11-22T14:00:00Z");
  expect(formatAge("2026-11-22T13:59:48Z", now)).toBe("12 s ago");
  expect(formatAge("2026-11-22T12:10:00Z", now)).toBe("1 h ago");
  expect(formatAge("2026-11-22T14:00:30Z", now)).toBe("just now");
  expect(formatAge("never", now)).toBe("at an unknown time");
});

test("counts names, most frequent first", () => {
  expect(countNames(["car", "person", "person"])).toBe("2 person, car");
  expect(countNames([])).toBe("");
});

test("lists reasons that occurred, most frequent first", () => {
  expect(formatReasons({ late: 3, torn: 0, spool_full: 1200 })).toBe("spool full 1,200, late 3");
});

test("the backoff grows, has a maximum and is never zero", () => {
  expect(backoffMs(0, () => 0)).toBe(250);
  expect(backoffMs(3, () => 1)).toBe(4000);
  expect(backoffMs(1000, () => 1)).toBe(15_000);
});

test("a datetime field holds local time", () => {
  const instant = Date.parse("2026-11-22T14:05:00Z");
  expect(new Date(toDatetimeLocal(instant)).getTime()).toBe(instant);
});

test("describes the outcome of a replay, also with a full queue", () => {
  expect(describeReplay("alarms", { queued: 0, rest_from: null })).toBe("No events to replay to alarms.");
  expect(describeReplay("alarms", { queued: 1, rest_from: null })).toBe("Queued 1 event for alarms.");
  expect(describeReplay("alarms", { queued: 10_000, rest_from: "2026-11-22T14:05:00Z" })).toMatch(
    /^Queued 10,000 events for alarms; its queue is full. Replay from [-\d]{10} \d\d:05 later\.$/,
  );
});
