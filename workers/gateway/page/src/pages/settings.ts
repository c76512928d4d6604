// The settings of a camera that can be changed while it runs: read, compared, offered. Pure.

import type { CameraDetail, Json, RunTimeSettings } from "../hub/model";

export const FPS = [0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60] as const;
export const QUALITIES = range(10, 100, 5);
export const WIDTHS = [320, 480, 640, 800, 960, 1280, 1600, 1920, 2560, 3840] as const;
export const THRESHOLDS = range(0, 100, 5).map((percent) => percent / 100);

/** What a camera runs with now; null where its settings do not tell. */
export function inForce(detail: CameraDetail): RunTimeSettings | null {
  const { fps, jpeg_quality, max_width, nvision } = detail.settings;
  const threshold = isObject(nvision) ? nvision.confidence_threshold : undefined;
  if (typeof fps !== "number" || typeof jpeg_quality !== "number" || typeof threshold !== "number") {
    return null;
  }
  return {
    fps,
    jpeg_quality,
    max_width: typeof max_width === "number" ? max_width : null,
    confidence_threshold: threshold,
  };
}

/** What is to be asked for, so that a camera with settings `now` gets those of `wanted`. */
export function difference(now: RunTimeSettings, wanted: RunTimeSettings): Partial<RunTimeSettings> {
  return Object.fromEntries(
    Object.entries(wanted).filter(([name, value]) => now[name as keyof RunTimeSettings] !== value),
  );
}

/** Settings as lines of a name and a value, those within others by their path: "nvision.service". */
export function flat(settings: Readonly<Record<string, Json>>, under = ""): readonly (readonly [string, string])[] {
  return Object.entries(settings).flatMap(([name, value]) => {
    const path = under + name;
    return isObject(value) ? flat(value, `${path}.`) : [[path, text(value)] as const];
  });
}

function text(value: Json): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function isObject(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function range(first: number, last: number, step: number): readonly number[] {
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, place) => first + place * step);
}
