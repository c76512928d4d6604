// A camera's settings: current values, changes, and selectable run-time values. Has no side effects.

import type { CameraDetail, Json, RuntimeSettings } from "../../api/types";

export const FPS = [0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60] as const;
export const QUALITIES = range(10, 100, 5);
export const WIDTHS = [320, 480, 640, 800, 960, 1280, 1600, 1920, 2560, 3840] as const;
export const THRESHOLDS = range(0, 100, 5).map((percent) => percent / 100);

/** The active run-time settings; null if the hub does not report them. */
export function activeSettings(detail: CameraDetail): RuntimeSettings | null {
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

/** The settings of `draft` that differ from the active settings. */
export function changedSettings(active: RuntimeSettings, draft: RuntimeSettings): Partial<RuntimeSettings> {
  return Object.fromEntries(
    Object.entries(draft).filter(([name, value]) => active[name as keyof RuntimeSettings] !== value),
  );
}

/** Settings as pairs of path and value. The path of a nested setting has a form such as "nvision.service". */
export function flattenSettings(
  settings: Readonly<Record<string, Json>>,
  prefix = "",
): readonly (readonly [string, string])[] {
  return Object.entries(settings).flatMap(([name, value]) => {
    const path = prefix + name;
    return isObject(value) ? flattenSettings(value, `${path}.`) : [[path, toText(value)] as const];
  });
}

function toText(value: Json): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function isObject(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function range(first: number, last: number, step: number): readonly number[] {
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, index) => first + index * step);
}
