// Filter and sort order of the cameras on the wall. Has no side effects.

import { type Camera, displayName, total } from "../../api/types";
import { cameraStatus, type Tone, urgency } from "../../state/status";

export type SortOrder = "problems" | "file" | "name" | "rate" | "drops" | "age";
export type StatusFilter = "all" | Tone;

export const SORT_LABELS: Readonly<Record<SortOrder, string>> = {
  problems: "Problems first",
  file: "As in cameras.yaml",
  name: "By name",
  rate: "Highest frame rate first",
  drops: "Most drops first",
  age: "Highest frame age first",
};

const COMPARE: Readonly<Record<SortOrder, (a: Camera, b: Camera) => number>> = {
  problems: (a, b) => urgency(a) - urgency(b),
  file: () => 0,
  name: (a, b) => displayName(a).localeCompare(displayName(b)),
  rate: (a, b) => b.rate_out - a.rate_out,
  drops: (a, b) => total(b.dropped) - total(a.dropped),
  age: (a, b) => (b.age_s?.p50 ?? -1) - (a.age_s?.p50 ?? -1),
};

/** Return the cameras that match the status and all words, sorted. Equal cameras stay in the file's order. */
export function filterAndSort(
  cameras: readonly Camera[],
  words: string,
  status: StatusFilter,
  order: SortOrder,
): readonly Camera[] {
  const searched = words.toLowerCase().split(/\s+/).filter(Boolean);
  return cameras
    .filter((camera) => status === "all" || cameraStatus(camera.state).tone === status)
    .filter((camera) => searched.every((word) => searchText(camera).includes(word)))
    .toSorted(COMPARE[order]);
}

/** Searchable text of a camera: id, name, state, labels and detected objects. */
function searchText(camera: Camera): string {
  const labels = Object.entries(camera.labels).map(([key, value]) => `${key}=${value}`);
  const state = cameraStatus(camera.state).label;
  return [camera.id, camera.name ?? "", state, ...labels, ...camera.seen].join(" ").toLowerCase();
}
