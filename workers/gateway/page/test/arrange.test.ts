import { expect, test } from "vitest";
import { arranged, type Group, type Order } from "../src/pages/arrange";
import { camera } from "./cameras";

const FLEET = [
  camera("yard", { paused: true, state: "paused" }),
  camera("lobby", { name: "Lobby, north door", labels: { floor: "1" }, seen: ["person"], rate_out: 1 }),
  camera("dock", { state: "unreachable", dropped: { late: 3, overwritten: 4 } }),
  camera("gate", { error: "the service is slow", dropped: { late: 9 } }),
  camera("roof", { state: "connecting" }),
];

function shown(words: string, group: Group = "all", order: Order = "problems"): string {
  return arranged(FLEET, words, group, order)
    .map(({ id }) => id)
    .join(" ");
}

test("those in trouble come first, then those on their way there, and paused ones last", () => {
  expect(shown("")).toBe("dock roof gate lobby yard");
});

test.each([
  ["file", "yard lobby dock gate roof"],
  ["name", "dock gate lobby roof yard"],
  ["drops", "gate dock yard lobby roof"],
] as const)("order: %s", (order, ids) => {
  expect(shown("", "all", order)).toBe(ids);
});

test.each([
  ["NORTH", "lobby"],
  ["floor=1", "lobby"],
  ["person lobby", "lobby"],
  ["person dock", ""],
  ["unreachable", "dock"],
])("every word has to be found, wherever: %s", (words, ids) => {
  expect(shown(words)).toBe(ids);
});

test("a group shows its own", () => {
  expect(shown("", "bad")).toBe("dock");
  expect(shown("", "good")).toBe("gate lobby");
});
