// Matcher of a camera's results and frames, which decides when to show which frame.
//
// While results arrive, each frame waits for its own result, even if the service is slow. Without results, the page
// shows frames immediately, and adds the boxes later if the result arrives before the next frame.

import type { Preview } from "../api/preview_message";
import type { Detection } from "../api/types";

const MAX_WAITING_FRAMES = 128;
const MAX_EARLY_RESULTS = 128;

export interface MatchedFrame {
  readonly preview: Preview;
  /** Null if the frame's result has not arrived yet. */
  readonly detections: readonly Detection[] | null;
}

interface WaitingFrame {
  readonly preview: Preview;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class FrameMatcher {
  private readonly waiting: WaitingFrame[] = []; // oldest first
  private readonly earlyResults = new Map<string, readonly Detection[]>(); // arrived before their frame, oldest first
  private shown: MatchedFrame | null = null;
  private lastResultAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly onFrame: (frame: MatchedFrame) => void,
    /** Maximum time that a frame waits for its result. After this time without any result, frames do not wait. */
    private readonly getMaxWaitMs: () => number,
  ) {}

  addFrame(preview: Preview): void {
    const { frame_id } = preview.header;
    const detections = this.earlyResults.get(frame_id) ?? null;
    this.earlyResults.delete(frame_id);
    const maxWaitMs = this.getMaxWaitMs();
    const timer = setTimeout(() => this.show(frame_id, null), maxWaitMs);
    this.waiting.push({ preview, timer });
    const hasRecentResult = performance.now() - this.lastResultAt < maxWaitMs;
    if (detections !== null || this.shown === null || !hasRecentResult) {
      this.show(frame_id, detections);
    } else if (this.waiting.length > MAX_WAITING_FRAMES) {
      this.show(this.waiting[0]?.preview.header.frame_id, null);
    }
  }

  addResult(frameId: string, detections: readonly Detection[]): void {
    this.lastResultAt = performance.now();
    if (this.shown?.preview.header.frame_id === frameId) {
      this.shown = { ...this.shown, detections };
      this.onFrame(this.shown);
    } else if (!this.show(frameId, detections)) {
      this.earlyResults.set(frameId, detections);
      const oldest = this.earlyResults.size > MAX_EARLY_RESULTS ? this.earlyResults.keys().next() : null;
      if (oldest?.value !== undefined) {
        this.earlyResults.delete(oldest.value);
      }
    }
  }

  clear(): void {
    for (const { timer } of this.waiting.splice(0)) {
      clearTimeout(timer);
    }
    this.earlyResults.clear();
    this.shown = null;
  }

  /** Show a waiting frame and discard older ones, which keeps the order. Return false if no such frame waits. */
  private show(frameId: string | undefined, detections: readonly Detection[] | null): boolean {
    const index = this.waiting.findIndex(({ preview }) => preview.header.frame_id === frameId);
    const frame = this.waiting[index];
    if (frame === undefined) {
      return false;
    }
    for (const { timer } of this.waiting.splice(0, index + 1)) {
      clearTimeout(timer);
    }
    this.shown = { preview: frame.preview, detections };
    this.onFrame(this.shown);
    return true;
  }
}
