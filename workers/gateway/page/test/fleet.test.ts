import { expect, test } from "vitest";
import { cameraIds, camera as cameraOf, cameras, resultsPerSecond, take, toldAt } from "../src/hub/fleet";
import type { Hub } from "../src/hub/model";
import { camera } from "./cameras";

const hub = { site: "test", processes: [] } as unknown as Hub;
const ids = () => cameras.value.map(({ id }) => id);

test("a viewer knows what the messages tell, in the file's order, and what changed its state", () => {
  take({ kind: "fleet", hub, cameras: [camera("b"), camera("a")], webhooks: [] }, 1000);
  expect(ids()).toEqual(["b", "a"]);

  const changes = take({ kind: "cameras", cameras: [camera("a", { state: "stalled" }), camera("c")] }, 2000);
  expect(changes.map(({ camera: { id, state }, from }) => [id, from, state])).toEqual([["a", "streaming", "stalled"]]);
  expect(ids()).toEqual(["b", "a", "c"]);
  expect(toldAt.value).toBe(2000);

  take({ kind: "removed", ids: ["b"] }, 3000);
  expect(cameraOf("b")).toBeUndefined();
  expect(ids()).toEqual(["a", "c"]);

  // After a lost connection all is told anew.
  const missed = take(
    { kind: "fleet", hub, cameras: [camera("c", { state: "paused" }), camera("d")], webhooks: [] },
    9000,
  );
  expect(missed.map(({ camera: { id } }) => id)).toEqual(["c"]);
  expect(ids()).toEqual(["c", "d"]);
  expect(cameraIds.value).toEqual(["c", "d"]);
});

test("results a second are of the last ten, whatever a camera counted before it was known", () => {
  const at = 100_000;
  take({ kind: "fleet", hub, cameras: [camera("a", { results_received: 1_000_000 })], webhooks: [] }, at);
  for (let second = 1; second <= 20; second += 1) {
    take({ kind: "cameras", cameras: [camera("a", { results_received: 1_000_000 + 5 * second })] }, at + second * 1000);
  }
  expect(resultsPerSecond.value).toBeCloseTo(5, 1);
});
