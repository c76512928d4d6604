// Where a detection's box and its label lie on a canvas. Pure geometry, in the canvas's own pixels.

import type { Detection } from "../hub/model";

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Area extends Size {
  readonly left: number;
  readonly top: number;
}

/** A detection's box, from pixels of the picture that was sent to those of the canvas, kept inside of it. */
export function placed(box: Detection["bounding_box"], sent: Size, canvas: Size): Area {
  const across = canvas.width / sent.width;
  const down = canvas.height / sent.height;
  const left = clamp(box.left * across, canvas.width);
  const top = clamp(box.top * down, canvas.height);
  const right = clamp(box.right * across, canvas.width);
  const bottom = clamp(box.bottom * down, canvas.height);
  return { left, top, width: right - left, height: bottom - top };
}

/** Above its box; inside where there is no room above, and pushed in from the right edge. */
export function labelled(box: Area, label: Size, canvas: Size): Area {
  const above = box.top - label.height;
  return {
    ...label,
    left: Math.max(0, Math.min(box.left, canvas.width - label.width)),
    top: above >= 0 ? above : Math.min(box.top, canvas.height - label.height),
  };
}

/** "person 91 %" */
export function caption(found: Detection): string {
  return `${found.name || "unnamed"} ${Math.round(found.confidence * 100)} %`;
}

function clamp(value: number, most: number): number {
  return Math.max(0, Math.min(value, most));
}
