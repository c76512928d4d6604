import { expect, test } from "vitest";
import { subject, told } from "../src/pages/news";

test.each([
  [{ kind: "camera_state", camera: "lobby", state: "stalled", error: "it sends nothing" }, "Stalled: it sends nothing"],
  [{ kind: "camera_state", camera: "lobby", state: "streaming", error: null }, "Streaming"],
  [{ kind: "webhook_state", webhook: "alarms", state: "open", error: "answered 500" }, "Endpoint down: answered 500"],
  [{ kind: "webhook_missed", webhook: "alarms", count: 12 }, "12 results left Redis before their delivery"],
  [{ kind: "worker_restart", worker: "broker", reason: "sigkill", restarts: 1 }, "Started again: sigkill"],
  [{ kind: "worker_restart", worker: "broker", reason: "exit_1", restarts: 4 }, "Started again (4 times now): exit 1"],
  [{ kind: "loss", camera: "lobby", reason: "spool_full", count: 1 }, "1 result lost: spool full"],
  [{ kind: "something_new" }, "something new"],
])("%o reads as it is meant", (event, line) => {
  expect(told(event)).toBe(line);
});

test("news is about a camera, a webhook, a process, or the hub as a whole", () => {
  expect(subject({ kind: "loss", camera: null })).toBe("hub");
  expect(subject({ kind: "worker_restart", worker: "camera:lobby", camera: "lobby" })).toBe("lobby");
  expect(subject({ kind: "worker_restart", worker: "broker", camera: null })).toBe("broker");
  expect(subject({ kind: "webhook_state", webhook: "alarms" })).toBe("alarms");
});
