// Position of a detection's box and label on a canvas, in canvas pixels. Has no side effects.

import type { Detection } from "../api/types";

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Rect extends Size {
  readonly left: number;
  readonly top: number;
}

/** Scale a box from pixels of the sent frame to pixels of the canvas, clipped to the canvas. */
export function scaleBox(box: Detection["bounding_box"], frame: Size, canvas: Size): Rect {
  const scaleX = canvas.width / frame.width;
  const scaleY = canvas.height / frame.height;
  const left = clamp(box.left * scaleX, canvas.width);
  const top = clamp(box.top * scaleY, canvas.height);
  const right = clamp(box.right * scaleX, canvas.width);
  const bottom = clamp(box.bottom * scaleY, canvas.height);
  return { left, top, width: right - left, height: bottom - top };
}

/** Place a label above its box or, if there is no room, inside the box. A label never leaves the canvas. */
export function placeLabel(box: Rect, label: Size, canvas: Size): Rect {
  const above = box.top - label.height;
  return {
    ...label,
    left: Math.max(0, Math.min(box.left, canvas.width - label.width)),
    top: above >= 0 ? above : Math.min(box.top, canvas.height - label.height),
  };
}

/** "person 91 %" */
export function labelText({ name, confidence }: Detection): string {
  return `${name || "unnamed"} ${Math.round(confidence * 100)} %`;
}

function clamp(value: number, max: number): number {
  return Math.max(0, Math.min(value, max));
}
