// A result belongs over the picture that it was found in and over no other: which picture of one camera to show, and when.

import type { Detection, PreviewHeader } from "../hub/model";

const HOLD_MS = 1000; // a picture without its result is shown after this long
const WAITING = 4;
const RESULTS = 32;

export interface Shown<Picture> {
  readonly header: PreviewHeader;
  readonly picture: Picture;
  /** Null while its result is not there. */
  readonly found: readonly Detection[] | null;
}

export interface Closable {
  close(): void;
}

interface Waiting<Picture> {
  readonly header: PreviewHeader;
  readonly picture: Picture;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Pairing<Picture extends Closable> {
  private readonly waiting: Waiting<Picture>[] = []; // oldest first
  private readonly results = new Map<string, readonly Detection[]>(); // of pictures that have not come, oldest first
  private now: Shown<Picture> | null = null;

  constructor(private readonly show: (shown: Shown<Picture>) => void) {}

  get shown(): Shown<Picture> | null {
    return this.now;
  }

  /** A picture came. It is closed once another takes its place. */
  picture(header: PreviewHeader, picture: Picture): void {
    const found = this.results.get(header.frame_id) ?? null;
    this.results.delete(header.frame_id);
    const timer = setTimeout(() => this.shownAnyway(header.frame_id), HOLD_MS);
    this.waiting.push({ header, picture, timer });
    if (found !== null || this.now === null) {
      this.advance(header.frame_id, found);
    } else if (this.waiting.length > WAITING) {
      this.advance(this.waiting[0]?.header.frame_id, null);
    }
  }

  /** A result came. */
  result(frameId: string, found: readonly Detection[]): void {
    if (this.now?.header.frame_id === frameId) {
      this.now = { ...this.now, found };
      this.show(this.now);
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
    for (const { picture, timer } of this.waiting.splice(0)) {
      clearTimeout(timer);
      picture.close();
    }
    this.now?.picture.close();
    this.now = null;
    this.results.clear();
  }

  private shownAnyway(frameId: string): void {
    this.advance(frameId, null);
  }

  /** Show a picture that waits, and let go of those before it: time does not run backwards. False where it waits not. */
  private advance(frameId: string | undefined, found: readonly Detection[] | null): boolean {
    const place = this.waiting.findIndex(({ header }) => header.frame_id === frameId);
    const next = this.waiting[place];
    if (next === undefined) {
      return false;
    }
    for (const { picture, timer } of this.waiting.splice(0, place + 1)) {
      clearTimeout(timer);
      if (picture !== next.picture) {
        picture.close();
      }
    }
    const before = this.now;
    this.now = { header: next.header, picture: next.picture, found };
    before?.picture.close();
    this.show(this.now);
    return true;
  }
}
