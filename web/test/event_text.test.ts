import { expect, test } from "vitest";
import { describeEvent, eventSubject } from "../src/state/event_text";

test.each([
  [
    { kind: "camera_state", camera: "lobby", state: "stalled", error: "no packets for 10 s" },
    "Stalled: no packets for 10 s",
  ],
  [{ kind: "camera_state", camera: "lobby", state: "streaming", error: null }, "Streaming"],
  [{ kind: "webhook_state", webhook: "alarms", state: "open", error: "answered 500" }, "Endpoint down: answered 500"],
  [{ kind: "webhook_missed", webhook: "alarms", count: 12 }, "12 results trimmed from Redis before delivery"],
  [{ kind: "worker_restart", worker: "broker", reason: "sigkill", restarts: 1 }, "Restarted: sigkill"],
  [{ kind: "worker_restart", worker: "broker", reason: "exit_1", restarts: 4 }, "Restarted (4 times so far): exit 1"],
  [{ kind: "loss", camera: "lobby", reason: "spool_full", count: 1 }, "1 result lost: spool full"],
  [{ kind: "something_new" }, "something new"],
])("describes %o", (event, text) => {
  expect(describeEvent(event)).toBe(text);
});

test("the subject of an event is a camera, a webhook, a process, or the hub", () => {
  expect(eventSubject({ kind: "loss", camera: null })).toBe("hub");
  expect(eventSubject({ kind: "worker_restart", worker: "camera:lobby", camera: "lobby" })).toBe("lobby");
  expect(eventSubject({ kind: "worker_restart", worker: "broker", camera: null })).toBe("broker");
  expect(eventSubject({ kind: "webhook_state", webhook: "alarms" })).toBe("alarms");
});
