// What is known of the hub, as signals. Told by the socket's messages; asks for nothing.

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { Lately } from "./lately";
import type { Connection } from "./live";
import type { Camera, Hub, Message, Webhook } from "./model";

export const connection = signal<Connection>({ phase: "connecting" });
export const hub = signal<Hub | null>(null);
export const webhooks = signal<readonly Webhook[]>([]);
/** In the order of cameras.yaml. */
export const cameraIds = signal<readonly string[]>([]);
/** When the hub last said anything, of `Date.now()`; null before its first word. */
export const toldAt = signal<number | null>(null);
export const resultsPerSecond = signal(0);

const byId = new Map<string, Signal<Camera>>();
const results = new Lately();

export const cameras: ReadonlySignal<readonly Camera[]> = computed(() =>
  cameraIds.value.flatMap((id) => byId.get(id)?.value ?? []),
);

/** One camera; undefined where there is none of that id. */
export function camera(id: string): Camera | undefined {
  void cameraIds.value; // whoever asks for one that is not there learns when it comes
  return byId.get(id)?.value;
}

export interface Change {
  readonly camera: Camera;
  readonly from: string;
}

/** Take a message in. What changed its state by it. */
export function take(message: Message, now: number): readonly Change[] {
  return batch(() => {
    toldAt.value = now;
    switch (message.kind) {
      case "fleet": {
        hub.value = message.hub;
        webhooks.value = message.webhooks;
        const changes = update(message.cameras, now);
        keepOnly(message.cameras.map(({ id }) => id));
        return changes;
      }
      case "cameras":
        return update(message.cameras, now);
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

function update(told: readonly Camera[], now: number): readonly Change[] {
  const changes: Change[] = [];
  const fresh: string[] = [];
  let received = 0;
  for (const camera of told) {
    const known = byId.get(camera.id);
    if (known === undefined) {
      byId.set(camera.id, signal(camera));
      fresh.push(camera.id);
      continue;
    }
    received += Math.max(0, camera.results_received - known.value.results_received);
    if (known.value.state !== camera.state) {
      changes.push({ camera, from: known.value.state });
    }
    known.value = camera;
  }
  results.add(received, now);
  resultsPerSecond.value = results.perSecond(now);
  if (fresh.length > 0) {
    cameraIds.value = [...cameraIds.value, ...fresh];
  }
  return changes;
}

function keepOnly(ids: readonly string[]): void {
  const kept = new Set(ids);
  for (const id of byId.keys()) {
    if (!kept.has(id)) {
      byId.delete(id);
    }
  }
  if (ids.length !== cameraIds.value.length || ids.some((id, index) => id !== cameraIds.value[index])) {
    cameraIds.value = ids;
  }
}
