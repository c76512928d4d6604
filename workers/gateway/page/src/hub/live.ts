// The one WebSocket to the gateway: kept open, opened anew when it is lost, and told what is being looked at.

import { answers } from "./api";
import { delayMs } from "./backoff";
import type { Message } from "./model";

const WRONG_TOKEN = 4401; // the gateway's close code
const HEALTHY_MS = 10_000; // a connection that lasted this long ends the back-off
const SILENT_MS = 10_000; // after so long without a word, the gateway is asked whether it is still there
const OPEN_WITHIN_MS = 10_000;

export type Connection =
  | { readonly phase: "connecting" }
  | { readonly phase: "open" }
  /** Times are of `Date.now()`. */
  | { readonly phase: "lost"; readonly since: number; readonly retryAt: number }
  | { readonly phase: "refused" };

export interface Watch {
  readonly cameras: readonly string[];
  readonly width: number;
  readonly fps: number;
}

export interface Listener {
  connection(now: Connection): void;
  message(message: Message): void;
  preview(message: ArrayBuffer): void;
  token(): string | null;
}

export class Live {
  private socket: WebSocket | null = null;
  private timer: number | undefined;
  private failed = 0;
  private openedAt = 0;
  private lostAt: number | null = null;
  private watched: Watch = { cameras: [], width: 640, fps: 5 };

  constructor(
    private readonly url: URL,
    private readonly listener: Listener,
  ) {}

  /** Connect now, whatever was being waited for. */
  connect(): void {
    this.abandon();
    if (this.lostAt === null) {
      this.listener.connection({ phase: "connecting" });
    }
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ token: this.listener.token() }));
    socket.onmessage = (message: MessageEvent<string | ArrayBuffer>) => this.heard(message.data);
    socket.onclose = (closed) => this.closed(closed.code);
    this.socket = socket;
    this.openedAt = 0;
    this.timer = window.setTimeout(() => this.lost(), OPEN_WITHIN_MS);
  }

  /** What is on the screen, in place of what was. */
  watch(watched: Watch): void {
    this.watched = watched;
    this.tellWatched();
  }

  private tellWatched(): void {
    if (this.openedAt !== 0) {
      const { cameras, width, fps } = this.watched;
      this.socket?.send(JSON.stringify({ watch: cameras, width, fps }));
    }
  }

  private heard(data: string | ArrayBuffer): void {
    this.expectMore();
    if (typeof data !== "string") {
      this.listener.preview(data);
      return;
    }
    const message = JSON.parse(data) as Message;
    if (message.kind === "fleet" && this.openedAt === 0) {
      this.openedAt = Date.now();
      this.lostAt = null;
      this.listener.connection({ phase: "open" });
      this.tellWatched();
    }
    this.listener.message(message);
  }

  private expectMore(): void {
    window.clearTimeout(this.timer);
    const socket = this.socket;
    this.timer = window.setTimeout(async () => {
      const there = await answers();
      if (this.socket !== socket) {
        return; // it was replaced meanwhile
      }
      if (there) {
        this.expectMore(); // a hub in which nothing changes has nothing to say
      } else {
        this.lost();
      }
    }, SILENT_MS);
  }

  private closed(code: number): void {
    if (code === WRONG_TOKEN) {
      this.abandon();
      this.listener.connection({ phase: "refused" });
    } else {
      this.lost();
    }
  }

  private lost(): void {
    const now = Date.now();
    const lasted = this.openedAt !== 0 && now - this.openedAt > HEALTHY_MS;
    this.failed = lasted ? 0 : this.failed + 1;
    this.lostAt ??= now;
    this.abandon();
    const wait = delayMs(this.failed);
    this.timer = window.setTimeout(() => this.connect(), wait);
    this.listener.connection({ phase: "lost", since: this.lostAt, retryAt: now + wait });
  }

  private abandon(): void {
    window.clearTimeout(this.timer);
    if (this.socket !== null) {
      this.socket.onopen = null;
      this.socket.onmessage = null;
      this.socket.onclose = null;
      this.socket.close();
      this.socket = null;
    }
    this.openedAt = 0;
  }
}
