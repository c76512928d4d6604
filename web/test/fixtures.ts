import type { Camera, Detection, PreviewHeader, Session } from "../src/api/types";

export const session: Session = { name: "ops", role: "control", kind: "token" };

/** A streaming camera without problems. */
export function camera(id: string, overrides: Partial<Camera> = {}): Camera {
  return {
    id,
    name: null,
    labels: {},
    state: "streaming",
    error: null,
    since: "2026-11-22T14:00:00Z",
    scheduled: null,
    limited_by: null,
    fps: 5,
    profile: null,
    rate_in: 25,
    rate_out: 5,
    sent: 0,
    answered: 0,
    unanswered: {},
    dropped: {},
    sent_bytes: 0,
    results_received: 0,
    results_published: 0,
    results_lost: {},
    spool: 0,
    age_s: null,
    round_trip_s: null,
    last_picture_at: null,
    last_result_at: null,
    seen: [],
    reconnects: { camera: {}, uplink: {} },
    restarts: {},
    worker: { pid: 1, cpu: null, memory_bytes: null },
    paused: false,
    run_time: { set: {}, file: {}, added: false },
    ...overrides,
  };
}

export function header(frameId: string): PreviewHeader {
  return { camera: "lobby", frame_id: frameId, captured_at: null, width: 1280, height: 720, sequence: 1 };
}

export function person(confidence = 0.9): Detection {
  return { name: "person", confidence, bounding_box: { left: 10, top: 20, right: 110, bottom: 220 } };
}
