import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FrameMatcher } from "../src/previews/frame_matcher";
import { header, person } from "./fixtures";

let shown: string[];
let matcher: FrameMatcher;

function addFrame(frameId: string): void {
  matcher.addFrame({ header: header(frameId), jpeg: new Uint8Array() });
}

beforeEach(() => {
  vi.useFakeTimers();
  shown = [];
  matcher = new FrameMatcher(
    ({ preview, detections }) => shown.push(`${preview.header.frame_id}:${detections?.length ?? "-"}`),
    () => 3000,
  );
});

afterEach(() => {
  vi.useRealTimers();
});

/** Show a frame with its result, so that later frames wait for theirs. */
function showFirst(): void {
  addFrame("first");
  matcher.addResult("first", []);
  shown = [];
}

test("shows the first frame immediately and adds its boxes later", () => {
  addFrame("a");
  matcher.addResult("a", [person()]);
  expect(shown).toEqual(["a:-", "a:1"]);
});

test("a later frame waits for its own result", () => {
  showFirst();
  addFrame("a");
  matcher.addResult("x", [person(), person()]);
  expect(shown).toEqual([]);
  matcher.addResult("a", []);
  expect(shown).toEqual(["a:0"]);
});

test("a result may arrive before its frame", () => {
  showFirst();
  matcher.addResult("a", [person()]);
  addFrame("a");
  expect(shown).toEqual(["a:1"]);
});

test("with a slow service, every frame is shown late, with its boxes", () => {
  showFirst();
  for (let frame = 0; frame < 30; frame += 1) {
    addFrame(String(frame));
    if (frame >= 10) {
      matcher.addResult(String(frame - 10), [person()]);
    }
    vi.advanceTimersByTime(200);
  }
  expect(shown).toEqual(Array.from({ length: 20 }, (_, frame) => `${frame}:1`));
});

test("a missing result delays its frame by three seconds, and later frames not at all", () => {
  showFirst();
  addFrame("a");
  vi.advanceTimersByTime(2900);
  expect(shown).toEqual([]);
  vi.advanceTimersByTime(200);
  addFrame("b");
  addFrame("c");
  expect(shown).toEqual(["a:-", "b:-", "c:-"]);
  matcher.addResult("c", [person()]);
  expect(shown.at(-1)).toBe("c:1");
});

test("discards frames older than the shown one", () => {
  showFirst();
  for (const frame of ["a", "b", "c"]) {
    addFrame(frame);
  }
  matcher.addResult("b", []);
  matcher.addResult("a", [person()]);
  vi.advanceTimersByTime(9000);
  expect(shown).toEqual(["b:0", "c:-"]);
});

test("limits the waiting frames, and clear() discards them", () => {
  showFirst();
  for (let frame = 0; frame < 134; frame += 1) {
    addFrame(String(frame));
  }
  expect(shown).toEqual(["0:-", "1:-", "2:-", "3:-", "4:-", "5:-"]);
  matcher.clear();
  vi.advanceTimersByTime(9000);
  expect(shown.length).toBe(6);
});

test("forgets old results without a frame", () => {
  showFirst();
  for (let number = 0; number < 200; number += 1) {
    matcher.addResult(`other ${number}`, [person()]);
  }
  addFrame("other 0");
  addFrame("other 199");
  expect(shown).toEqual(["other 199:1"]);
});
