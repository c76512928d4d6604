// Which cameras the wall shows, and in which order. Pure.

import { type Camera, title, total } from "../hub/model";
import { cameraLook, type Tone, urgency } from "../hub/states";

export type Order = "problems" | "file" | "name" | "rate" | "drops" | "age";
export type Group = "all" | Tone;

export const ORDERS: Readonly<Record<Order, string>> = {
  problems: "Problems first",
  file: "As in cameras.yaml",
  name: "By name",
  rate: "Most pictures first",
  drops: "Most drops first",
  age: "Oldest pictures first",
};

const COMPARE: Readonly<Record<Order, (a: Camera, b: Camera) => number>> = {
  problems: (a, b) => urgency(a) - urgency(b),
  file: () => 0,
  name: (a, b) => title(a).localeCompare(title(b)),
  rate: (a, b) => b.rate_out - a.rate_out,
  drops: (a, b) => total(b.dropped) - total(a.dropped),
  age: (a, b) => (b.age_s?.p50 ?? -1) - (a.age_s?.p50 ?? -1),
};

/** Those that match every word, in their group and order; equal ones stay as cameras.yaml has them. */
export function arranged(cameras: readonly Camera[], words: string, group: Group, order: Order): readonly Camera[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return cameras
    .filter((camera) => group === "all" || cameraLook(camera.state).tone === group)
    .filter((camera) => wanted.every((word) => text(camera).includes(word)))
    .toSorted(COMPARE[order]);
}

/** Everything that a person may know a camera by. */
function text(camera: Camera): string {
  const labels = Object.entries(camera.labels).map(([key, value]) => `${key}=${value}`);
  const state = cameraLook(camera.state).label;
  return [camera.id, camera.name ?? "", state, ...labels, ...camera.seen].join(" ").toLowerCase();
}
