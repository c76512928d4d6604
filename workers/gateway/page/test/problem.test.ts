import { expect, test } from "vitest";
import { faults, sentence } from "../src/hub/problem";

test("each field's fault is found where the gateway points at it", () => {
  const problem = { detail: "It does not fit.", errors: [{ pointer: "/body/id", detail: "should match" }] };
  expect([...faults(problem)]).toEqual([["id", "should match"]]);
  expect(sentence(problem)).toBe("It does not fit.");
});

test("and where the hub begins a line with its name", () => {
  const problem = { detail: "Url: `rstp` is no kind of camera: use rtsp\nfps: must be at most 60." };
  expect([...faults(problem)]).toEqual([
    ["url", "`rstp` is no kind of camera: use rtsp"],
    ["fps", "must be at most 60."],
  ]);
});

test("what names no field is a sentence alone", () => {
  expect(faults({ detail: "There is a camera gate already; remove it first." }).size).toBe(0);
  expect(sentence({ title: "Conflict" })).toBe("Conflict");
  expect(sentence({})).toBeUndefined();
});
