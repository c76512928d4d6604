const WINDOW_MS = 10_000;

/** Events per second over the last ten seconds. */
export class RollingRate {
  private readonly samples: { at: number; count: number }[] = [];
  private startedAt: number | null = null;

  /** Add `count` events at `now`, in milliseconds. */
  add(count: number, now: number): void {
    this.startedAt ??= now;
    this.samples.push({ at: now, count });
    while (this.samples[0] !== undefined && now - this.samples[0].at > WINDOW_MS) {
      this.samples.shift();
    }
  }

  /** Rate over the window or, if shorter, over the time since the first sample; 0 during the first second. */
  perSecond(now: number): number {
    const span = Math.min(WINDOW_MS, now - (this.startedAt ?? now));
    const sum = this.samples.filter(({ at }) => now - at < WINDOW_MS).reduce((all, { count }) => all + count, 0);
    return span < 1000 ? 0 : (sum * 1000) / span;
  }
}
