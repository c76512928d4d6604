// The states of cameras, webhooks and processes: what each is called, its shape, and how urgent it is.

import type { Camera } from "./model";

/** Of a shape of its own each, so that none has to be told by its colour. */
export type Shape = "play" | "pause" | "ring" | "cross" | "lock" | "warning" | "question" | "loop" | "stop";

export type Tone = "good" | "waiting" | "idle" | "bad";

export interface Look {
  readonly label: string;
  readonly shape: Shape;
  readonly tone: Tone;
}

const CAMERA: Readonly<Record<string, Look>> = {
  starting: { label: "Starting", shape: "ring", tone: "waiting" },
  connecting: { label: "Connecting", shape: "ring", tone: "waiting" },
  streaming: { label: "Streaming", shape: "play", tone: "good" },
  paused: { label: "Paused", shape: "pause", tone: "idle" },
  stopped: { label: "Stopped", shape: "stop", tone: "idle" },
  stalled: { label: "Stalled", shape: "warning", tone: "bad" },
  auth_failed: { label: "Password refused", shape: "lock", tone: "bad" },
  not_found: { label: "Not found", shape: "question", tone: "bad" },
  unreachable: { label: "Unreachable", shape: "cross", tone: "bad" },
  unsupported: { label: "Not supported", shape: "cross", tone: "bad" },
  crash_loop: { label: "Keeps crashing", shape: "loop", tone: "bad" },
};

const WEBHOOK: Readonly<Record<string, Look>> = {
  active: { label: "Active", shape: "play", tone: "good" },
  half_open: { label: "Trying again", shape: "ring", tone: "waiting" },
  open: { label: "Endpoint down", shape: "cross", tone: "bad" },
  disabled: { label: "Disabled", shape: "stop", tone: "idle" },
};

const PROCESS: Readonly<Record<string, Look>> = {
  running: { label: "Running", shape: "play", tone: "good" },
  waiting: { label: "Waiting to start", shape: "ring", tone: "waiting" },
  draining: { label: "Finishing", shape: "ring", tone: "waiting" },
  terminating: { label: "Being ended", shape: "stop", tone: "waiting" },
  killed: { label: "Killed", shape: "cross", tone: "bad" },
  ended: { label: "Ended", shape: "stop", tone: "idle" },
};

const unknown = (name: string): Look => ({ label: name.replaceAll("_", " "), shape: "question", tone: "waiting" });

export const cameraLook = (state: string): Look => CAMERA[state] ?? unknown(state);
export const webhookLook = (state: string): Look => WEBHOOK[state] ?? unknown(state);
export const processLook = (phase: string): Look => PROCESS[phase] ?? unknown(phase);

const URGENCY: Readonly<Record<Tone, number>> = { bad: 0, waiting: 1, good: 2, idle: 3 };

/** For sorting: less is more urgent. A camera that streams and says what is wrong comes before those that are well. */
export function urgency(camera: Camera): number {
  const { tone } = cameraLook(camera.state);
  return URGENCY[tone] - (tone === "good" && camera.error !== null ? 0.5 : 0);
}

export const inTrouble = (camera: Camera): boolean => cameraLook(camera.state).tone === "bad";
