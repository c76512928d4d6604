// Notices on the screen, and announcements for screen readers.

import { signal } from "@preact/signals";
import { type Camera, displayName } from "../api/types";
import { cameraStatus } from "../state/status";

const MAX_ANNOUNCED = 3; // if more cameras change at the same time, the page announces only their number
const NOTICE_MS = 6000;

/** Text of the polite live region. */
export const announcement = signal("");

export interface Notice {
  readonly text: string;
  readonly tone: "good" | "bad";
}

export const notice = signal<Notice | null>(null);
let timer: number | undefined;

/** Announce cameras whose state changed. */
export function announceChanges(changed: readonly Camera[]): void {
  if (changed.length > MAX_ANNOUNCED) {
    announcement.value = `${changed.length} cameras changed state.`;
  } else if (changed.length > 0) {
    announcement.value = changed.map(describe).join(" ");
  }
}

function describe(camera: Camera): string {
  const error = camera.error === null ? "" : ` ${camera.error}.`;
  return `${displayName(camera)}: ${cameraStatus(camera.state).label.toLowerCase()}.${error}`;
}

/** Show a notice. A failure notice stays until the user dismisses it or another notice replaces it. */
export function notify(text: string, tone: Notice["tone"] = "good"): void {
  window.clearTimeout(timer);
  notice.value = { text, tone };
  if (tone === "good") {
    timer = window.setTimeout(() => {
      notice.value = null;
    }, NOTICE_MS);
  }
}

/** Run an action, and show its error or else the notice `success`, which may be a function of the result. */
export async function runAction<T>(
  action: () => Promise<T>,
  success?: string | ((result: T) => string),
): Promise<void> {
  try {
    const result = await action();
    if (success !== undefined) {
      notify(typeof success === "string" ? success : success(result));
    }
  } catch (error) {
    notify(error instanceof Error ? error.message : String(error), "bad");
  }
}
