// Display of the states of cameras, webhooks and processes: label, icon shape, tone and urgency.

import type { Camera } from "../api/types";

/** Shape of a state's icon. Shapes differ, because color must not be the only distinction. */
export type Shape = "play" | "pause" | "ring" | "cross" | "lock" | "warning" | "question" | "loop" | "stop";

export type Tone = "good" | "waiting" | "idle" | "bad";

export interface Status {
  readonly label: string;
  readonly shape: Shape;
  readonly tone: Tone;
}

const CAMERA: Readonly<Record<string, Status>> = {
  starting: { label: "Starting", shape: "ring", tone: "waiting" },
  connecting: { label: "Connecting", shape: "ring", tone: "waiting" },
  streaming: { label: "Streaming", shape: "play", tone: "good" },
  paused: { label: "Paused", shape: "pause", tone: "idle" },
  stopped: { label: "Stopped", shape: "stop", tone: "idle" },
  stalled: { label: "Stalled", shape: "warning", tone: "bad" },
  auth_failed: { label: "Login failed", shape: "lock", tone: "bad" },
  not_found: { label: "Not found", shape: "question", tone: "bad" },
  unreachable: { label: "Unreachable", shape: "cross", tone: "bad" },
  unsupported: { label: "Not supported", shape: "cross", tone: "bad" },
  crash_loop: { label: "Keeps crashing", shape: "loop", tone: "bad" },
};

const WEBHOOK: Readonly<Record<string, Status>> = {
  active: { label: "Active", shape: "play", tone: "good" },
  half_open: { label: "Retrying", shape: "ring", tone: "waiting" },
  open: { label: "Endpoint down", shape: "cross", tone: "bad" },
  disabled: { label: "Disabled", shape: "stop", tone: "idle" },
};

const PROCESS: Readonly<Record<string, Status>> = {
  running: { label: "Running", shape: "play", tone: "good" },
  waiting: { label: "Waiting to start", shape: "ring", tone: "waiting" },
  draining: { label: "Draining", shape: "ring", tone: "waiting" },
  terminating: { label: "Terminating", shape: "stop", tone: "waiting" },
  killed: { label: "Killed", shape: "cross", tone: "bad" },
  ended: { label: "Ended", shape: "stop", tone: "idle" },
};

/** Status for a state that this page does not know, for example from a newer hub. */
const unknown = (name: string): Status => ({ label: name.replaceAll("_", " "), shape: "question", tone: "waiting" });

export const cameraStatus = (state: string): Status => CAMERA[state] ?? unknown(state);
export const webhookStatus = (state: string): Status => WEBHOOK[state] ?? unknown(state);
export const processStatus = (phase: string): Status => PROCESS[phase] ?? unknown(phase);

const URGENCY: Readonly<Record<Tone, number>> = { bad: 0, waiting: 1, good: 2, idle: 3 };

/** Sort key: lower is more urgent. A streaming camera with an error comes before streaming cameras without one. */
export function urgency(camera: Camera): number {
  const { tone } = cameraStatus(camera.state);
  return URGENCY[tone] - (tone === "good" && camera.error !== null ? 0.5 : 0);
}

export const isFailing = (camera: Camera): boolean => cameraStatus(camera.state).tone === "bad";
