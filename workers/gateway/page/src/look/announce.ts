// What a screen reader is told of changes, a sentence at a time, and what everyone is told of what went wrong or right.

import { signal } from "@preact/signals";
import type { Change } from "../hub/fleet";
import { title } from "../hub/model";
import { cameraLook } from "../hub/states";

const MOST = 3; // more at once are a number
const NOTICE_MS = 6000;

export const announced = signal("");

export interface Notice {
  readonly text: string;
  readonly tone: "good" | "bad";
}

export const notice = signal<Notice | null>(null);
let timer: number | undefined;

export function announceChanges(changes: readonly Change[]): void {
  if (changes.length > MOST) {
    announced.value = `${changes.length} cameras have changed their state.`;
  } else if (changes.length > 0) {
    announced.value = changes.map(sentence).join(" ");
  }
}

function sentence({ camera }: Change): string {
  const error = camera.error === null ? "" : ` ${camera.error}.`;
  return `${title(camera)}: ${cameraLook(camera.state).label.toLowerCase()}.${error}`;
}

/** Tell how an order went. What failed stays until it is replaced or dismissed. */
export function tell(text: string, tone: Notice["tone"] = "good"): void {
  window.clearTimeout(timer);
  notice.value = { text, tone };
  if (tone === "good") {
    timer = window.setTimeout(() => {
      notice.value = null;
    }, NOTICE_MS);
  }
}

/** Carry out an order, and tell how it went; `done` is a sentence, or makes one of what came back. */
export async function ordered<T>(order: () => Promise<T>, done: string | ((outcome: T) => string)): Promise<void> {
  try {
    const outcome = await order();
    const told = typeof done === "string" ? done : done(outcome);
    if (told !== "") {
      tell(told);
    }
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error), "bad");
  }
}
