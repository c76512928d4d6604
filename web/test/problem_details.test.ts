import { expect, test } from "vitest";
import { fieldErrors, problemMessage } from "../src/api/problem_details";

test("reads the errors of fields from the document's data", () => {
  const problem = {
    detail: "The camera is invalid; see errors.",
    errors: [
      { field: "id", code: "string_pattern_mismatch", detail: "String should match a pattern" },
      { field: "fps", code: "less_than_equal", detail: "must be at most 60" },
    ],
  };
  expect([...fieldErrors(problem)]).toEqual([
    ["id", "String should match a pattern"],
    ["fps", "must be at most 60"],
  ]);
  expect(problemMessage(problem)).toBe("The camera is invalid; see errors.");
});

test("a document without field errors has only a message", () => {
  expect(fieldErrors({ detail: "fps: must be at most 60." }).size).toBe(0);
  expect(problemMessage({ title: "Conflict" })).toBe("Conflict");
  expect(problemMessage({})).toBeUndefined();
});
