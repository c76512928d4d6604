// A result belongs over the picture that it was found in and over no other: which picture of one camera to show, and when.
//
// While results come, a picture waits for its own, however long the service takes. While none comes, pictures are shown as
// they come, and get their boxes if those follow before the next picture.

import type { Detection } from "../hub/model";
import type { Preview } from "../hub/preview";

const WAITING = 128;
const RESULTS = 128;

export interface Shown {
  readonly preview: Preview;
  /** Null while its result is not there. */
  readonly found: readonly Detection[] | null;
}

interface Waiting {
  readonly preview: Preview;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Pairing {
  private readonly waiting: Waiting[] = []; // oldest first
  private readonly results = new Map<string, readonly Detection[]>(); // of pictures that have not come, oldest first
  private shown: Shown | null = null;
  private resultAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly show: (shown: Shown) => void,
    /** How long a picture waits for its result; once none came for so long, none does. */
    private readonly holdMs: () => number,
  ) {}

  /** A picture came. */
  picture(preview: Preview): void {
    const { frame_id } = preview.header;
    const found = this.results.get(frame_id) ?? null;
    this.results.delete(frame_id);
    const hold = this.holdMs();
    const timer = setTimeout(() => this.advance(frame_id, null), hold);
    this.waiting.push({ preview, timer });
    const resultsCome = performance.now() - this.resultAt < hold;
    if (found !== null || this.shown === null || !resultsCome) {
      this.advance(frame_id, found);
    } else if (this.waiting.length > WAITING) {
      this.advance(this.waiting[0]?.preview.header.frame_id, null);
    }
  }

  /** A result came. */
  result(frameId: string, found: readonly Detection[]): void {
    this.resultAt = performance.now();
    if (this.shown?.preview.header.frame_id === frameId) {
      this.shown = { ...this.shown, found };
      this.show(this.shown);
    } else if (!this.advance(frameId, found)) {
      this.results.set(frameId, found);
      const oldest = this.results.size > RESULTS ? this.results.keys().next() : null;
      if (oldest?.value !== undefined) {
        this.results.delete(oldest.value);
      }
    }
  }

  /** Nobody looks any more. */
  close(): void {
    for (const { timer } of this.waiting.splice(0)) {
      clearTimeout(timer);
    }
    this.results.clear();
    this.shown = null;
  }

  /** Show a picture that waits, and let go of those before it: time does not run backwards. False where it waits not. */
  private advance(frameId: string | undefined, found: readonly Detection[] | null): boolean {
    const place = this.waiting.findIndex(({ preview }) => preview.header.frame_id === frameId);
    const next = this.waiting[place];
    if (next === undefined) {
      return false;
    }
    for (const { timer } of this.waiting.splice(0, place + 1)) {
      clearTimeout(timer);
    }
    this.shown = { preview: next.preview, found };
    this.show(this.shown);
    return true;
  }
}
