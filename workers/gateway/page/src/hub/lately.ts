const WINDOW_MS = 10_000;

/** How many a second lately, of something that is counted now and then. */
export class Lately {
  private readonly counted: { at: number; count: number }[] = [];
  private began: number | null = null;

  /** So many more, at `now` in milliseconds. */
  add(count: number, now: number): void {
    this.began ??= now;
    this.counted.push({ at: now, count });
    while (this.counted[0] !== undefined && now - this.counted[0].at > WINDOW_MS) {
      this.counted.shift();
    }
  }

  /** Per second over the last ten, or since the first where that is less; 0 before there is a span to speak of. */
  perSecond(now: number): number {
    const span = Math.min(WINDOW_MS, now - (this.began ?? now));
    const counted = this.counted.filter(({ at }) => now - at < WINDOW_MS).reduce((sum, { count }) => sum + count, 0);
    return span < 1000 ? 0 : (counted * 1000) / span;
  }
}
