import { expect, test } from "vitest";
import { filterAndSort, type SortOrder, type StatusFilter } from "../src/pages/wall/camera_filter";
import { camera } from "./fixtures";

const FLEET = [
  camera("yard", { paused: true, state: "paused" }),
  camera("lobby", { name: "Lobby, north door", labels: { floor: "1" }, seen: ["person"], rate_out: 1 }),
  camera("dock", { state: "unreachable", dropped: { late: 3, overwritten: 4 } }),
  camera("gate", { error: "the service is slow", dropped: { late: 9 } }),
  camera("roof", { state: "connecting" }),
];

function shown(words: string, status: StatusFilter = "all", order: SortOrder = "problems"): string {
  return filterAndSort(FLEET, words, status, order)
    .map(({ id }) => id)
    .join(" ");
}

test("sorts failing cameras first, then connecting ones, and paused ones last", () => {
  expect(shown("")).toBe("dock roof gate lobby yard");
});

test.each([
  ["file", "yard lobby dock gate roof"],
  ["name", "dock gate lobby roof yard"],
  ["drops", "gate dock yard lobby roof"],
] as const)("sorts by %s", (order, ids) => {
  expect(shown("", "all", order)).toBe(ids);
});

test.each([
  ["NORTH", "lobby"],
  ["floor=1", "lobby"],
  ["person lobby", "lobby"],
  ["person dock", ""],
  ["unreachable", "dock"],
])("matches cameras that contain every word: %s", (words, ids) => {
  expect(shown(words)).toBe(ids);
});

test("filters by status", () => {
  expect(shown("", "bad")).toBe("dock");
  expect(shown("", "good")).toBe("gate lobby");
});
