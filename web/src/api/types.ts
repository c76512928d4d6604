// Types of the gateway's API (see `GET /api/openapi.json`). Instants are ISO 8601 strings, and durations are seconds.

export type Counts = Readonly<Record<string, number>>;

export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

/** Settings that can change at run time. If `max_width` is null, frames keep the camera's width. */
export interface RuntimeSettings {
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
  /** Media profile of an ONVIF camera. */
  readonly profile: string | null;
  /** Effect of the camera's schedule, such as `0.5/s until 06:00`; null while it has no effect. */
  readonly scheduled: string | null;
  /** Limit that withholds frames, such as `the site's images_per_day`; null if there is none. */
  readonly limited_by: string | null;
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
    /** Overrides of cameras.yaml. */
    readonly set: Partial<RuntimeSettings>;
    /** Values from cameras.yaml. */
    readonly file: Partial<RuntimeSettings>;
    /** True if the camera was added at run time and is not in cameras.yaml. */
    readonly added: boolean;
  };
}

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export interface CameraDetail extends Camera {
  readonly settings: Readonly<Record<string, Json>>;
  /** Newest last. */
  readonly errors: readonly { readonly at: string; readonly error: string }[];
}

/** The last 30 minutes in steps of `every_s` seconds, newest last. A step without a measurement is null. */
export interface History {
  readonly every_s: number;
  readonly until: string;
  readonly rate_in: readonly (number | null)[];
  readonly rate_out: readonly (number | null)[];
  readonly age_p50_s: readonly (number | null)[];
  readonly age_p99_s: readonly (number | null)[];
  readonly round_trip_p50_s: readonly (number | null)[];
  readonly dropped_per_s: readonly (number | null)[];
  /** All dropped frames up to the newest point; null if unknown. */
  readonly dropped: Counts | null;
  /** Dropped frames per second, only for reasons that occurred. */
  readonly dropped_by_reason_per_s: Readonly<Record<string, readonly (number | null)[]>>;
}

/** Cost of a camera with the given settings. */
export interface FrameCost {
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
  /** Display names of the models of the local service; null if there is no local service. */
  readonly models: { readonly objects: string; readonly faces: string } | null;
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
  /** Null if the stored event is not valid JSON. */
  readonly event: ResultEvent | null;
}

export interface ReplayOutcome {
  readonly queued: number;
  /** Instant from which to replay the results that did not fit into the queue; null if all results fit. */
  readonly rest_from: string | null;
}

export interface Detection {
  readonly name: string;
  readonly confidence: number;
  /** In pixels of the frame sent to the service. */
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

/** Message of the Redis channel `nvision:events`. A newer hub may send unknown kinds. */
export interface HubEvent {
  readonly kind: string;
  /** The subject of the event: a camera, a webhook or a process. */
  readonly camera?: string | null;
  readonly webhook?: string;
  readonly worker?: string;
  readonly state?: string;
  readonly error?: string | null;
  readonly reason?: string;
  readonly restarts?: number;
  readonly count?: number;
}

export type Role = "metrics" | "view" | "control" | "admin";

/** The signed-in client. If a gateway needs no token, the kind of every client is `local`. */
export interface Session {
  readonly name: string;
  readonly role: Role | null;
  readonly kind: "token" | "proxy" | "user" | "local";
}

/** Text message on the WebSocket. */
export type Message =
  | {
      readonly kind: "fleet";
      readonly session: Session;
      readonly hub: Hub;
      readonly cameras: readonly Camera[];
      readonly webhooks: readonly Webhook[];
    }
  | { readonly kind: "cameras"; readonly cameras: readonly Camera[] }
  | { readonly kind: "removed"; readonly ids: readonly string[] }
  | { readonly kind: "hub"; readonly hub: Hub }
  | { readonly kind: "webhooks"; readonly webhooks: readonly Webhook[] }
  | { readonly kind: "result"; readonly event: ResultEvent }
  | { readonly kind: "news"; readonly event: HubEvent }
  | { readonly kind: "error"; readonly detail: string };

/** Header of a preview. Width and height are the size of the frame sent to the service, in pixels. */
export interface PreviewHeader {
  readonly camera: string;
  readonly frame_id: string;
  /** Seconds since the epoch; null if unknown. */
  readonly captured_at: number | null;
  readonly width: number;
  readonly height: number;
  readonly sequence: number;
}

/** Objects and faces of a result. */
export function allDetections(event: ResultEvent): readonly Detection[] {
  return [...event.detected_objects, ...(event.detected_faces ?? [])];
}

export function displayName(camera: Camera): string {
  return camera.name ?? camera.id;
}

export function total(counts: Counts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
