// WebSocket to the gateway. It authenticates, reconnects with backoff, and requests previews.

import { backoffMs } from "./backoff";
import { isHubReachable } from "./client";
import type { Message } from "./types";

const CLOSE_UNAUTHORIZED = 4401; // the gateway's close code for a wrong token
const CLOSE_ROLE_TOO_LOW = 4403; // the token is valid, but its role may not read the page
const HEALTHY_MS = 10_000; // a connection that lasted this long resets the backoff
const SILENCE_TIMEOUT_MS = 10_000; // without a message for this time, check the hub with an HTTP request
const OPEN_TIMEOUT_MS = 10_000;

/** Times are in milliseconds since the epoch. */
export type ConnectionState =
  | { readonly phase: "connecting" }
  | { readonly phase: "open" }
  | { readonly phase: "lost"; readonly retryAt: number }
  | { readonly phase: "unauthorized"; readonly isRoleTooLow: boolean };

/** Previews to request: the cameras, the width in pixels, and the previews per second for each camera. */
export interface PreviewRequest {
  readonly cameras: readonly string[];
  readonly width: number;
  readonly fps: number;
}

export interface LiveSocketHandlers {
  onConnection(state: ConnectionState): void;
  onMessage(message: Message): void;
  onPreview(data: ArrayBuffer): void;
  getToken(): string | null;
}

export class LiveSocket {
  private socket: WebSocket | null = null;
  private timer: number | undefined;
  private failures = 0;
  private openedAt: number | null = null;
  private isLost = false;
  private request: PreviewRequest = { cameras: [], width: 640, fps: 5 };

  constructor(
    private readonly url: URL,
    private readonly handlers: LiveSocketHandlers,
  ) {}

  /** Connect immediately, even during a backoff. */
  connect(): void {
    this.close();
    if (!this.isLost) {
      this.handlers.onConnection({ phase: "connecting" });
    }
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ token: this.handlers.getToken() }));
    socket.onmessage = (message: MessageEvent<string | ArrayBuffer>) => this.onData(message.data);
    socket.onclose = ({ code }) => this.onClose(code);
    this.socket = socket;
    this.timer = window.setTimeout(() => this.reconnectLater(), OPEN_TIMEOUT_MS);
  }

  /** Replace the requested previews. */
  requestPreviews(request: PreviewRequest): void {
    this.request = request;
    this.sendRequest();
  }

  private sendRequest(): void {
    if (this.openedAt !== null) {
      const { cameras, width, fps } = this.request;
      this.socket?.send(JSON.stringify({ watch: cameras, width, fps }));
    }
  }

  private onData(data: string | ArrayBuffer): void {
    this.restartSilenceTimer();
    if (typeof data !== "string") {
      this.handlers.onPreview(data);
      return;
    }
    const message = JSON.parse(data) as Message;
    if (message.kind === "fleet" && this.openedAt === null) {
      this.openedAt = Date.now();
      this.isLost = false;
      this.handlers.onConnection({ phase: "open" });
      this.sendRequest();
    }
    this.handlers.onMessage(message);
  }

  private restartSilenceTimer(): void {
    window.clearTimeout(this.timer);
    const socket = this.socket;
    this.timer = window.setTimeout(async () => {
      const isReachable = await isHubReachable();
      if (this.socket !== socket) {
        return; // another socket has replaced this one during the request
      }
      if (isReachable) {
        this.restartSilenceTimer(); // the hub sends no messages while nothing changes
      } else {
        this.reconnectLater();
      }
    }, SILENCE_TIMEOUT_MS);
  }

  private onClose(code: number): void {
    if (code === CLOSE_UNAUTHORIZED || code === CLOSE_ROLE_TOO_LOW) {
      this.close();
      this.handlers.onConnection({ phase: "unauthorized", isRoleTooLow: code === CLOSE_ROLE_TOO_LOW });
    } else {
      this.reconnectLater();
    }
  }

  private reconnectLater(): void {
    const now = Date.now();
    const wasHealthy = this.openedAt !== null && now - this.openedAt > HEALTHY_MS;
    this.failures = wasHealthy ? 0 : this.failures + 1;
    this.isLost = true;
    this.close();
    const delay = backoffMs(this.failures);
    this.timer = window.setTimeout(() => this.connect(), delay);
    this.handlers.onConnection({ phase: "lost", retryAt: now + delay });
  }

  private close(): void {
    window.clearTimeout(this.timer);
    if (this.socket !== null) {
      this.socket.onopen = null;
      this.socket.onmessage = null;
      this.socket.onclose = null;
      this.socket.close();
      this.socket = null;
    }
    this.openedAt = null;
  }
}
