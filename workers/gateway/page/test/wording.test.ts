import { expect, test } from "vitest";
import { delayMs } from "../src/hub/backoff";
import { ago, bytes, duration, localMinute, rate, replayed, tallied } from "../src/look/wording";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1500, "1.5 kB"],
  [48_300_000, "48 MB"],
  [999_700, "1.0 MB"],
  [2.1e9, "2.1 GB"],
])("%d bytes are %s", (count, told) => {
  expect(bytes(count)).toBe(told);
});

test.each([
  [0.0842, "84 ms"],
  [0.9996, "1.0 s"],
  [1.24, "1.2 s"],
  [59.96, "1 min"],
  [3599, "1 h"],
  [7500, "2 h 5 min"],
  [90_000, "1 d 1 h"],
])("%d seconds are %s", (seconds, told) => {
  expect(duration(seconds)).toBe(told);
});

test.each([
  [0.5, "0.5"],
  [9.97, "10"],
  [1234.4, "1,234"],
])("%d a second is %s", (perSecond, told) => {
  expect(rate(perSecond)).toBe(told);
});

test("an instant is as long ago as it is, and a wrong clock does not tell of the future", () => {
  const now = Date.parse("2026-11-22T14:00:00Z");
  expect(ago("2026-11-22T13:59:48Z", now)).toBe("12 s ago");
  expect(ago("2026-11-22T12:10:00Z", now)).toBe("1 h ago");
  expect(ago("2026-11-22T14:00:30Z", now)).toBe("just now");
  expect(ago("never", now)).toBe("at an unknown time");
});

test("what was found is counted, the most frequent first", () => {
  expect(tallied(["car", "person", "person"])).toBe("2 person, car");
  expect(tallied([])).toBe("");
});

test("attempts come ever more rarely, and never at once", () => {
  expect(delayMs(0, () => 0)).toBe(250);
  expect(delayMs(3, () => 1)).toBe(4000);
  expect(delayMs(1000, () => 1)).toBe(15_000);
});

test("a field for a moment holds this machine's time of day", () => {
  const instant = Date.parse("2026-11-22T14:05:00Z");
  expect(new Date(localMinute(instant)).getTime()).toBe(instant);
});

test("a replay says how much, and what found no room", () => {
  expect(replayed("alarms", { queued: 0, rest_from: null })).toBe("There is nothing to deliver to alarms again.");
  expect(replayed("alarms", { queued: 1, rest_from: null })).toBe("1 result is delivered to alarms again.");
  expect(replayed("alarms", { queued: 10_000, rest_from: "2026-11-22T14:05:00Z" })).toMatch(
    /^10,000 results wait for alarms, which is all it has room for; replay since [-\d]{10} \d\d:05 later\.$/,
  );
});
