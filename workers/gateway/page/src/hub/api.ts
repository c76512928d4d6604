// Questions and orders to the gateway by HTTP. What it refuses becomes a sentence.

import type { CameraDetail, DeadLetter, History, Replayed, RunTimeSettings, Tuning } from "./model";
import { faults, type Problem, sentence } from "./problem";
import { token, wantToken } from "./token";

const WITHIN_MS = 15_000;

/** The gateway's answer where it is no success, or none at all; its message is for people. */
export class Refusal extends Error {
  constructor(
    message: string,
    /** 0 where no answer came. */
    readonly status: number,
    /** What is wrong with each field of what was asked. */
    readonly faults: ReadonlyMap<string, string> = new Map(),
  ) {
    super(message);
  }
}

/** Where the gateway is: beside this page, whatever path a proxy has put it under. */
export function address(path: string): URL {
  return new URL(`api/v1/${path}`, document.baseURI);
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token.value !== null) {
    headers.set("Authorization", `Bearer ${token.value}`);
  }
  let response: Response;
  try {
    response = await fetch(address(path), { ...init, headers, signal: init.signal ?? AbortSignal.timeout(WITHIN_MS) });
  } catch (error) {
    if (init.signal?.aborted) {
      throw error;
    }
    throw new Refusal("The hub does not answer.", 0);
  }
  if (response.status === 401) {
    wantToken();
  }
  if (!response.ok) {
    throw await refusal(response);
  }
  return response;
}

async function refusal(response: Response): Promise<Refusal> {
  const problem = (await response.json().catch(() => ({}))) as Problem;
  const told = sentence(problem) ?? `The hub answered ${response.status} ${response.statusText}.`;
  return new Refusal(told, response.status, faults(problem));
}

async function read<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await ask(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

function body(method: "PATCH" | "POST", content: unknown): RequestInit {
  return { method, body: JSON.stringify(content), headers: { "Content-Type": "application/json" } };
}

const of = (id: string): string => encodeURIComponent(id);

export const cameraDetail = (id: string, signal?: AbortSignal): Promise<CameraDetail> =>
  read(`cameras/${of(id)}`, signal);

export const history = (id: string, signal?: AbortSignal): Promise<History> =>
  read(`cameras/${of(id)}/history`, signal);

export type CameraVerb = "pause" | "resume" | "restart";

export async function order(id: string, verb: CameraVerb): Promise<void> {
  await ask(`cameras/${of(id)}/${verb}`, { method: "POST" });
}

export async function change(id: string, settings: Partial<RunTimeSettings>): Promise<void> {
  await ask(`cameras/${of(id)}`, body("PATCH", settings));
}

export async function add(camera: { id: string; url: string; fps: number }): Promise<void> {
  await ask("cameras", body("POST", camera));
}

export async function remove(id: string): Promise<void> {
  await ask(`cameras/${of(id)}`, { method: "DELETE" });
}

/** What a camera would cost with other settings, measured on its last picture. */
export function tuning(id: string, settings: RunTimeSettings, signal: AbortSignal): Promise<Tuning> {
  const asked = new URLSearchParams({ fps: String(settings.fps), jpeg_quality: String(settings.jpeg_quality) });
  if (settings.max_width !== null) {
    asked.set("max_width", String(settings.max_width));
  }
  return read(`cameras/${of(id)}/tuning?${asked}`, signal);
}

export async function snapshot(id: string): Promise<Blob> {
  const response = await ask(`cameras/${of(id)}/snapshot.jpg?boxes=1`);
  return response.blob();
}

export async function orderWebhook(id: string, verb: "test" | "enable"): Promise<void> {
  await ask(`webhooks/${of(id)}/${verb}`, { method: "POST" });
}

/** Deliver again: everything since an instant, or what was given up on. */
export async function replay(webhook: string, what: { since: string } | { dead: true }): Promise<Replayed> {
  const response = await ask("webhooks/replay", body("POST", { webhook, ...what }));
  return (await response.json()) as Replayed;
}

export async function deadLetters(webhook: string, limit: number): Promise<readonly DeadLetter[]> {
  const found = await read<{ dead_letters: DeadLetter[] }>(
    `webhooks/dead-letters?webhook=${of(webhook)}&limit=${limit}`,
  );
  return found.dead_letters;
}

/** Whether the gateway answers at all. */
export async function answers(): Promise<boolean> {
  try {
    await ask("hub");
    return true;
  } catch {
    return false;
  }
}
