import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Pairing } from "../src/watching/pairing";
import { header, person } from "./cameras";

let told: string[];
let pairing: Pairing;

function come(frame: string): void {
  pairing.picture({ header: header(frame), jpeg: new Uint8Array() });
}

beforeEach(() => {
  vi.useFakeTimers();
  told = [];
  pairing = new Pairing(
    ({ preview, found }) => told.push(`${preview.header.frame_id}:${found?.length ?? "-"}`),
    () => 3000,
  );
});

afterEach(() => {
  vi.useRealTimers();
});

/** A picture that is shown with its result, so that results are known to come. */
function begin(): void {
  come("begin");
  pairing.result("begin", []);
  told = [];
}

test("the first picture is shown at once, and gets its boxes when they come", () => {
  come("a");
  pairing.result("a", [person()]);
  expect(told).toEqual(["a:-", "a:1"]);
});

test("a later picture waits for its result, and never takes that of another", () => {
  begin();
  come("a");
  pairing.result("x", [person(), person()]);
  expect(told).toEqual([]);
  pairing.result("a", []);
  expect(told).toEqual(["a:0"]);
});

test("a result may come before its picture", () => {
  begin();
  pairing.result("a", [person()]);
  come("a");
  expect(told).toEqual(["a:1"]);
});

test("a service that takes two seconds shows every picture with its boxes, two seconds late", () => {
  begin();
  for (let frame = 0; frame < 30; frame += 1) {
    come(String(frame));
    if (frame >= 10) {
      pairing.result(String(frame - 10), [person()]);
    }
    vi.advanceTimersByTime(200);
  }
  expect(told).toEqual(Array.from({ length: 20 }, (_, frame) => `${frame}:1`));
});

test("a result that never comes holds its picture for three seconds, and the next one not at all", () => {
  begin();
  come("a");
  vi.advanceTimersByTime(2900);
  expect(told).toEqual([]);
  vi.advanceTimersByTime(200);
  come("b");
  come("c");
  expect(told).toEqual(["a:-", "b:-", "c:-"]);
  pairing.result("c", [person()]);
  expect(told.at(-1)).toBe("c:1");
});

test("time does not run backwards: pictures before the one shown are let go of", () => {
  begin();
  for (const frame of ["a", "b", "c"]) {
    come(frame);
  }
  pairing.result("b", []);
  pairing.result("a", [person()]);
  vi.advanceTimersByTime(9000);
  expect(told).toEqual(["b:0", "c:-"]);
});

test("few pictures wait, and none once nobody looks", () => {
  begin();
  for (let frame = 0; frame < 134; frame += 1) {
    come(String(frame));
  }
  expect(told).toEqual(["0:-", "1:-", "2:-", "3:-", "4:-", "5:-"]);
  pairing.close();
  vi.advanceTimersByTime(9000);
  expect(told.length).toBe(6);
});

test("results of pictures that were never sent here are forgotten", () => {
  begin();
  for (let number = 0; number < 200; number += 1) {
    pairing.result(`other ${number}`, [person()]);
  }
  come("other 0");
  come("other 199");
  expect(told).toEqual(["other 199:1"]);
});
