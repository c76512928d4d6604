// State of the hub as signals, which socket messages update. This module sends no requests.

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { ConnectionState } from "../api/live_socket";
import type { Camera, Hub, Message, Webhook } from "../api/types";
import { RollingRate } from "./rolling_rate";
import { session } from "./session";

export const connection = signal<ConnectionState>({ phase: "connecting" });
export const hub = signal<Hub | null>(null);
export const webhooks = signal<readonly Webhook[]>([]);
/** Ids of all cameras, in the order of cameras.yaml. */
export const cameraIds = signal<readonly string[]>([]);
/** Time of the last message, in milliseconds since the epoch; null before the first message. */
export const updatedAt = signal<number | null>(null);
export const resultsPerSecond = signal(0);

const camerasById = new Map<string, Signal<Camera>>();
const resultRate = new RollingRate();

export const cameras: ReadonlySignal<readonly Camera[]> = computed(() =>
  cameraIds.value.flatMap((id) => camerasById.get(id)?.value ?? []),
);

/** The camera with the given id; undefined if no camera has it. */
export function getCamera(id: string): Camera | undefined {
  void cameraIds.value; // subscribes the caller to changes of the list of cameras
  return camerasById.get(id)?.value;
}

/** Apply a message. Return the cameras whose state changed. */
export function applyMessage(message: Message, now: number): readonly Camera[] {
  return batch(() => {
    updatedAt.value = now;
    switch (message.kind) {
      case "fleet": {
        session.value = message.session;
        hub.value = message.hub;
        webhooks.value = message.webhooks;
        const changed = updateCameras(message.cameras, now);
        keepOnly(message.cameras.map(({ id }) => id));
        return changed;
      }
      case "cameras":
        return updateCameras(message.cameras, now);
      case "removed":
        keepOnly(cameraIds.value.filter((id) => !message.ids.includes(id)));
        return [];
      case "hub":
        hub.value = message.hub;
        return [];
      case "webhooks":
        webhooks.value = message.webhooks;
        return [];
      default:
        return [];
    }
  });
}

function updateCameras(updates: readonly Camera[], now: number): readonly Camera[] {
  const changed: Camera[] = [];
  const added: string[] = [];
  let received = 0;
  for (const camera of updates) {
    const known = camerasById.get(camera.id);
    if (known === undefined) {
      camerasById.set(camera.id, signal(camera));
      added.push(camera.id);
      continue;
    }
    received += Math.max(0, camera.results_received - known.value.results_received);
    if (known.value.state !== camera.state) {
      changed.push(camera);
    }
    known.value = camera;
  }
  resultRate.add(received, now);
  resultsPerSecond.value = resultRate.perSecond(now);
  if (added.length > 0) {
    cameraIds.value = [...cameraIds.value, ...added];
  }
  return changed;
}

/** Keep only the cameras in `ids`, in the order of `ids`. */
function keepOnly(ids: readonly string[]): void {
  const kept = new Set(ids);
  for (const id of camerasById.keys()) {
    if (!kept.has(id)) {
      camerasById.delete(id);
    }
  }
  if (ids.length !== cameraIds.value.length || ids.some((id, index) => id !== cameraIds.value[index])) {
    cameraIds.value = ids;
  }
}
