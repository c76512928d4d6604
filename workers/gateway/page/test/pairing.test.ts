import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Pairing } from "../src/watching/pairing";
import { header, person } from "./cameras";

class Picture {
  closed = false;
  constructor(readonly name: string) {}
  close(): void {
    this.closed = true;
  }
}

let told: string[];
let pairing: Pairing<Picture>;
const pictures = new Map<string, Picture>();

function come(name: string): void {
  const picture = new Picture(name);
  pictures.set(name, picture);
  pairing.picture(header(name), picture);
}

beforeEach(() => {
  vi.useFakeTimers();
  told = [];
  pictures.clear();
  pairing = new Pairing<Picture>(({ picture, found }) => told.push(`${picture.name}:${found?.length ?? "-"}`));
});

afterEach(() => {
  vi.useRealTimers();
});

test("the first picture is shown at once, and gets its boxes when they come", () => {
  come("a");
  pairing.result("a", [person()]);
  expect(told).toEqual(["a:-", "a:1"]);
});

test("a later picture waits for its result, and never takes that of another", () => {
  come("a");
  come("b");
  pairing.result("x", [person(), person()]);
  expect(told).toEqual(["a:-"]);
  pairing.result("b", []);
  expect(told).toEqual(["a:-", "b:0"]);
});

test("a result may come before its picture", () => {
  come("a");
  pairing.result("b", [person()]);
  come("b");
  expect(told).toEqual(["a:-", "b:1"]);
});

test("a picture whose result is late is shown without, and then with it", () => {
  come("a");
  come("b");
  vi.advanceTimersByTime(1000);
  expect(told).toEqual(["a:-", "b:-"]);
  pairing.result("b", [person()]);
  expect(told).toEqual(["a:-", "b:-", "b:1"]);
});

test("time does not run backwards: pictures before the one shown are let go of", () => {
  for (const name of ["a", "b", "c"]) {
    come(name);
  }
  pairing.result("c", []);
  pairing.result("b", [person()]);
  vi.advanceTimersByTime(5000);
  expect(told).toEqual(["a:-", "c:0"]);
  expect([...pictures.values()].map(({ closed }) => closed)).toEqual([true, true, false]);
});

test("a service that answers nothing holds few pictures back, and every one is closed in the end", () => {
  for (const name of "abcdefghij") {
    come(name);
  }
  expect(told).toEqual(["a:-", "b:-", "c:-", "d:-", "e:-", "f:-"]);
  pairing.close();
  vi.advanceTimersByTime(5000);
  expect([...pictures.values()].every(({ closed }) => closed)).toBe(true);
  expect(told.length).toBe(6);
});

test("results of pictures that were never sent here are forgotten", () => {
  come("a");
  for (let number = 0; number < 100; number += 1) {
    pairing.result(`other ${number}`, [person()]);
  }
  come("other 0");
  come("other 99");
  expect(told).toEqual(["a:-", "other 99:1"]);
});
