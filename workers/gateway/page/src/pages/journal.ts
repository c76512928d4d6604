// Results and news as they happened, newest first. Bounded; a person may hold it to read.

import { signal } from "@preact/signals";
import { detections, type News, type ResultEvent } from "../hub/model";
import { tallied } from "../look/wording";
import { subject, told } from "./news";

const KEPT = 500;

export interface Entry {
  readonly key: number;
  /** When it came here, of `Date.now()`. */
  readonly at: number;
  readonly kind: "result" | "news";
  readonly camera: string | null;
  /** What it is about where that is no camera, such as a webhook. */
  readonly subject: string;
  readonly text: string;
}

export const entries = signal<readonly Entry[]>([]);
export const held = signal(false);
/** How many came while it was held. */
export const missed = signal(0);

let waiting: Entry[] = [];
let key = 0;

export function noteResult(event: ResultEvent, at: number): void {
  const found = detections(event);
  if (found.length > 0) {
    const { camera } = event.hub;
    note({ kind: "result", at, camera, subject: camera, text: tallied(found.map(({ name }) => name)) });
  }
}

export function noteNews(event: News, at: number): void {
  note({ kind: "news", at, camera: event.camera ?? null, subject: subject(event), text: told(event) });
}

function note(entry: Omit<Entry, "key">): void {
  key += 1;
  const known = { ...entry, key };
  if (held.value) {
    missed.value += 1;
    return;
  }
  waiting.push(known);
  if (waiting.length === 1) {
    // A hundred cameras tell hundreds of things a second: the list is renewed once a frame.
    requestAnimationFrame(() => {
      entries.value = [...waiting.reverse(), ...entries.value].slice(0, KEPT);
      waiting = [];
    });
  }
}

export function hold(now: boolean): void {
  held.value = now;
  missed.value = 0;
}
