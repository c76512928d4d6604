// Bounded log of results and hub events, newest first. To read the log, the user can pause it.

import { signal } from "@preact/signals";
import { allDetections, type HubEvent, type ResultEvent } from "../api/types";
import { countNames } from "../ui/format";
import { describeEvent, eventSubject } from "./event_text";

const MAX_ENTRIES = 500;

export interface LogEntry {
  readonly key: number;
  /** Time of arrival, in milliseconds since the epoch. */
  readonly at: number;
  readonly kind: "result" | "hub";
  readonly camera: string | null;
  /** The camera, or another subject such as a webhook. */
  readonly subject: string;
  readonly text: string;
}

export const entries = signal<readonly LogEntry[]>([]);
export const isPaused = signal(false);
/** Number of entries that the paused log has discarded. */
export const skipped = signal(0);

let pending: LogEntry[] = [];
let lastKey = 0;

export function logResult(event: ResultEvent, at: number): void {
  const detections = allDetections(event);
  if (detections.length > 0) {
    const { camera } = event.hub;
    push({ kind: "result", at, camera, subject: camera, text: countNames(detections.map(({ name }) => name)) });
  }
}

export function logHubEvent(event: HubEvent, at: number): void {
  push({ kind: "hub", at, camera: event.camera ?? null, subject: eventSubject(event), text: describeEvent(event) });
}

function push(entry: Omit<LogEntry, "key">): void {
  if (isPaused.value) {
    skipped.value += 1;
    return;
  }
  lastKey += 1;
  pending.push({ ...entry, key: lastKey });
  if (pending.length === 1) {
    // A hundred cameras send hundreds of events per second, so the log renders at most once per animation frame.
    requestAnimationFrame(() => {
      entries.value = [...pending.reverse(), ...entries.value].slice(0, MAX_ENTRIES);
      pending = [];
    });
  }
}

export function setPaused(paused: boolean): void {
  isPaused.value = paused;
  skipped.value = 0;
}
