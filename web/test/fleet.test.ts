import { expect, test } from "vitest";
import type { Hub } from "../src/api/types";
import { applyMessage, cameraIds, cameras, getCamera, resultsPerSecond, updatedAt } from "../src/state/fleet";
import { camera, session } from "./fixtures";

const hub = { site: "test", processes: [] } as unknown as Hub;
const ids = () => cameras.value.map(({ id }) => id);

test("messages update the cameras and report changed states", () => {
  applyMessage({ kind: "fleet", session, hub, cameras: [camera("b"), camera("a")], webhooks: [] }, 1000);
  expect(ids()).toEqual(["b", "a"]);

  const changed = applyMessage({ kind: "cameras", cameras: [camera("a", { state: "stalled" }), camera("c")] }, 2000);
  expect(changed.map(({ id, state }) => [id, state])).toEqual([["a", "stalled"]]);
  expect(ids()).toEqual(["b", "a", "c"]);
  expect(updatedAt.value).toBe(2000);

  applyMessage({ kind: "removed", ids: ["b"] }, 3000);
  expect(getCamera("b")).toBeUndefined();
  expect(ids()).toEqual(["a", "c"]);

  // After reconnecting, the gateway sends the whole fleet again.
  const missed = applyMessage(
    { kind: "fleet", session, hub, cameras: [camera("c", { state: "paused" }), camera("d")], webhooks: [] },
    9000,
  );
  expect(missed.map(({ id }) => id)).toEqual(["c"]);
  expect(ids()).toEqual(["c", "d"]);
  expect(cameraIds.value).toEqual(["c", "d"]);
});

test("the result rate covers the last ten seconds and ignores a camera's earlier results", () => {
  const at = 100_000;
  applyMessage(
    { kind: "fleet", session, hub, cameras: [camera("a", { results_received: 1_000_000 })], webhooks: [] },
    at,
  );
  for (let second = 1; second <= 20; second += 1) {
    applyMessage(
      { kind: "cameras", cameras: [camera("a", { results_received: 1_000_000 + 5 * second })] },
      at + second * 1000,
    );
  }
  expect(resultsPerSecond.value).toBeCloseTo(5, 1);
});
