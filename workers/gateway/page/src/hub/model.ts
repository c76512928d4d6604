// The API's shapes, as `GET /api/openapi.json` describes them. Instants are ISO 8601, durations seconds.

export type Counts = Readonly<Record<string, number>>;

export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

/** What can be changed while a camera runs. `max_width` null sends pictures as wide as they come. */
export interface RunTimeSettings {
  readonly fps: number;
  readonly jpeg_quality: number;
  readonly max_width: number | null;
  readonly confidence_threshold: number;
}

export interface Camera {
  readonly id: string;
  readonly name: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: string;
  readonly error: string | null;
  readonly since: string;
  readonly fps: number | null;
  readonly rate_in: number;
  readonly rate_out: number;
  readonly sent: number;
  readonly answered: number;
  readonly unanswered: Counts;
  readonly dropped: Counts;
  readonly sent_bytes: number;
  readonly results_received: number;
  readonly results_published: number;
  readonly results_lost: Counts;
  readonly spool: number;
  readonly age_s: Quantiles | null;
  readonly round_trip_s: Quantiles | null;
  readonly last_picture_at: string | null;
  readonly last_result_at: string | null;
  readonly seen: readonly string[];
  readonly reconnects: { readonly camera: Counts; readonly uplink: Counts };
  readonly restarts: Counts;
  readonly worker: { readonly pid: number | null; readonly cpu: number | null; readonly memory_bytes: number | null };
  readonly paused: boolean;
  readonly run_time: {
    /** Those that differ from cameras.yaml's, and those of cameras.yaml. */
    readonly set: Partial<RunTimeSettings>;
    readonly file: Partial<RunTimeSettings>;
    readonly added: boolean;
  };
}

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export interface CameraDetail extends Camera {
  readonly settings: Readonly<Record<string, Json>>;
  /** The last ones, newest last. */
  readonly errors: readonly { readonly at: string; readonly error: string }[];
}

/** Half an hour in steps of `every_s`, newest last; null where nothing is known. */
export interface History {
  readonly every_s: number;
  readonly until: string;
  readonly rate_in: readonly (number | null)[];
  readonly rate_out: readonly (number | null)[];
  readonly age_p50_s: readonly (number | null)[];
  readonly age_p99_s: readonly (number | null)[];
  readonly round_trip_p50_s: readonly (number | null)[];
  readonly dropped_per_s: readonly (number | null)[];
  /** Of the reasons alone that have occurred. */
  readonly dropped_by_reason_per_s: Readonly<Record<string, readonly (number | null)[]>>;
}

export interface Tuning {
  readonly bytes_per_picture: number;
  readonly bytes_per_hour: number;
  readonly images_per_day: number;
  readonly width: number;
  readonly height: number;
}

export interface Process {
  readonly name: string;
  readonly phase: string;
  readonly pid: number | null;
  readonly cpu: number | null;
  readonly memory_bytes: number | null;
  readonly restarts: Counts;
  readonly error: string | null;
}

export interface Hub {
  readonly site: string;
  readonly version: string;
  readonly started_at: string | null;
  readonly redis: string | null;
  readonly broker_up: boolean;
  readonly service_up: boolean;
  readonly config_reloads: Counts;
  readonly reload_error: string | null;
  readonly processes: readonly Process[];
}

export interface Webhook {
  readonly id: string;
  readonly url: string;
  readonly state: "active" | "open" | "half_open" | "disabled";
  readonly pending: number;
  readonly retrying: number;
  readonly dead: number;
  readonly delivered: number;
  readonly failed: number;
  readonly last_error: string | null;
  readonly last_delivery_at: string | null;
  readonly p50_s: number | null;
  readonly p99_s: number | null;
}

export interface DeadLetter {
  readonly webhook: string;
  readonly reason: string;
  readonly id: string;
  readonly attempts: number;
  /** Null where it cannot be read any more. */
  readonly event: ResultEvent | null;
}

/** What became of a replay. */
export interface Replayed {
  readonly queued: number;
  /** Since when to replay again, once there is room: not all found some. Null where all did. */
  readonly rest_from: string | null;
}

export interface Detection {
  readonly name: string;
  readonly confidence: number;
  /** Pixels of the picture that was sent. */
  readonly bounding_box: {
    readonly left: number;
    readonly top: number;
    readonly right: number;
    readonly bottom: number;
  };
}

export interface ResultEvent {
  readonly frame_id: string;
  readonly detected_objects: readonly Detection[];
  readonly detected_faces?: readonly Detection[];
  readonly hub: { readonly id: string; readonly camera: string; readonly captured_at: string | null };
}

/** An item of the channel `nvision:events`. Kinds may come that this page does not know yet. */
export interface News {
  readonly kind: string;
  /** Which of these three it is about: a camera, a webhook, or another process. */
  readonly camera?: string | null;
  readonly webhook?: string;
  readonly worker?: string;
  readonly state?: string;
  readonly error?: string | null;
  readonly reason?: string;
  readonly restarts?: number;
  readonly count?: number;
}

/** What the gateway says as text on its WebSocket. */
export type Message =
  | {
      readonly kind: "fleet";
      readonly hub: Hub;
      readonly cameras: readonly Camera[];
      readonly webhooks: readonly Webhook[];
    }
  | { readonly kind: "cameras"; readonly cameras: readonly Camera[] }
  | { readonly kind: "removed"; readonly ids: readonly string[] }
  | { readonly kind: "hub"; readonly hub: Hub }
  | { readonly kind: "webhooks"; readonly webhooks: readonly Webhook[] }
  | { readonly kind: "result"; readonly event: ResultEvent }
  | { readonly kind: "news"; readonly event: News }
  | { readonly kind: "error"; readonly detail: string };

/** What precedes the JPEG in a binary message. Width and height are those of the picture sent, in pixels. */
export interface PreviewHeader {
  readonly camera: string;
  readonly frame_id: string;
  /** Seconds since the epoch; null where that cannot be known. */
  readonly captured_at: number | null;
  readonly width: number;
  readonly height: number;
  readonly sequence: number;
}

/** Everything that was found in a picture, whichever service looked at it. */
export function detections(event: ResultEvent): readonly Detection[] {
  return [...event.detected_objects, ...(event.detected_faces ?? [])];
}

/** What people call it. */
export function title(camera: Camera): string {
  return camera.name ?? camera.id;
}

export function total(counts: Counts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
