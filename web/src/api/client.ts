// HTTP client for the gateway's API. A failed request throws an `ApiError` unless the caller aborted the request.

import { fieldErrors, type ProblemDetails, problemMessage } from "./problem_details";
import { promptForToken, token } from "./token";
import type { CameraDetail, DeadLetter, FrameCost, History, ReplayOutcome, RuntimeSettings } from "./types";

const REQUEST_TIMEOUT_MS = 15_000;

/** A failed request. The page shows the message to the user. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 if the gateway sent no response. */
    readonly status: number,
    /** Error messages by field of the request body. */
    readonly fields: ReadonlyMap<string, string> = new Map(),
  ) {
    super(message);
  }
}

/** URL of an API path, relative to this page's URL, because a proxy may serve both below a prefix. */
export function apiUrl(path: string): URL {
  return new URL(`api/v1/${path}`, document.baseURI);
}

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token.value !== null) {
    headers.set("Authorization", `Bearer ${token.value}`);
  }
  const signal = init.signal ?? AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(apiUrl(path), { ...init, headers, signal });
  } catch (error) {
    if (init.signal?.aborted) {
      throw error;
    }
    throw new ApiError("The hub does not respond. Check that it is running, then try again.", 0);
  }
  if (response.status === 401) {
    promptForToken();
  }
  if (!response.ok) {
    const problem = (await response.json().catch(() => ({}))) as ProblemDetails;
    const message = problemMessage(problem) ?? `The hub responded with ${response.status} ${response.statusText}.`;
    throw new ApiError(message, response.status, fieldErrors(problem));
  }
  return response;
}

async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

function withBody(method: "PATCH" | "POST", content: unknown): RequestInit {
  return { method, body: JSON.stringify(content), headers: { "Content-Type": "application/json" } };
}

const cameraPath = (id: string): string => `cameras/${encodeURIComponent(id)}`;

export const getCamera = (id: string, signal: AbortSignal): Promise<CameraDetail> => getJson(cameraPath(id), signal);

export const getHistory = (id: string, signal: AbortSignal): Promise<History> =>
  getJson(`${cameraPath(id)}/history`, signal);

export async function sendCameraCommand(id: string, command: "pause" | "resume" | "restart"): Promise<void> {
  await request(`${cameraPath(id)}/${command}`, { method: "POST" });
}

export async function updateCamera(id: string, settings: Partial<RuntimeSettings>): Promise<void> {
  await request(cameraPath(id), withBody("PATCH", settings));
}

export async function addCamera(camera: { id: string; url: string; fps: number }): Promise<void> {
  await request("cameras", withBody("POST", camera));
}

export async function removeCamera(id: string): Promise<void> {
  await request(cameraPath(id), { method: "DELETE" });
}

/** Estimate the cost of other settings. The hub encodes the camera's last frame with these settings. */
export function estimateCost(id: string, settings: RuntimeSettings, signal: AbortSignal): Promise<FrameCost> {
  const query = new URLSearchParams({ fps: String(settings.fps), jpeg_quality: String(settings.jpeg_quality) });
  if (settings.max_width !== null) {
    query.set("max_width", String(settings.max_width));
  }
  return getJson(`${cameraPath(id)}/tuning?${query}`, signal);
}

/** The camera's last frame as a JPEG with its detections drawn on it. */
export async function getSnapshot(id: string): Promise<Blob> {
  const response = await request(`${cameraPath(id)}/snapshot.jpg?boxes=1`);
  return response.blob();
}

export async function sendWebhookCommand(id: string, command: "test" | "enable"): Promise<void> {
  await request(`webhooks/${encodeURIComponent(id)}/${command}`, { method: "POST" });
}

/** Replay all results since an instant, or all dead letters. */
export async function replayWebhook(
  webhook: string,
  selection: { since: string } | { dead: true },
): Promise<ReplayOutcome> {
  const response = await request("webhooks/replay", withBody("POST", { webhook, ...selection }));
  return (await response.json()) as ReplayOutcome;
}

export async function getDeadLetters(webhook: string, limit: number): Promise<readonly DeadLetter[]> {
  const query = new URLSearchParams({ webhook, limit: String(limit) });
  const response = await getJson<{ dead_letters: DeadLetter[] }>(`webhooks/dead-letters?${query}`);
  return response.dead_letters;
}

export async function isHubReachable(): Promise<boolean> {
  try {
    await request("hub");
    return true;
  } catch {
    return false;
  }
}
