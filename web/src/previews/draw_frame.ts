// Drawing of a frame and its detections on a canvas.

import type { Detection } from "../api/types";
import { labelText, placeLabel, scaleBox } from "./box_layout";
import type { DecodedFrame } from "./preview_streams";

// These colors are visible on frames of any brightness. They only distinguish the boxes; the labels show the names.
const BOX_COLORS = ["#ffd23f", "#4cc9f0", "#ff8fab", "#80ed99", "#ffa94d", "#cdb4ff"] as const;
const LABEL_COLOR = "#10151c";
const FONT_PX = 12;

/** Fill the canvas. `scale` is the number of canvas pixels per CSS pixel. */
export function drawFrame(canvas: HTMLCanvasElement, frame: DecodedFrame, scale: number): void {
  const context = canvas.getContext("2d", { alpha: false });
  if (context === null) {
    return;
  }
  context.drawImage(frame.image, 0, 0, canvas.width, canvas.height);
  context.font = `600 ${FONT_PX * scale}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const detection of frame.detections ?? []) {
    drawDetection(context, detection, frame, scale);
  }
}

function drawDetection(
  context: CanvasRenderingContext2D,
  detection: Detection,
  frame: DecodedFrame,
  scale: number,
): void {
  const { canvas } = context;
  const color = colorFor(detection.name);
  const box = scaleBox(detection.bounding_box, frame.header, canvas);
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 60%)"; // a dark outline keeps the box visible on bright scenes
  context.lineWidth = 4 * scale;
  context.strokeRect(box.left, box.top, box.width, box.height);
  context.strokeStyle = color;
  context.lineWidth = 2 * scale;
  context.strokeRect(box.left, box.top, box.width, box.height);
  const text = labelText(detection);
  const width = context.measureText(text).width + 10 * scale;
  const label = placeLabel(box, { width, height: (FONT_PX + 6) * scale }, canvas);
  context.fillStyle = color;
  context.fillRect(label.left, label.top, label.width, label.height);
  context.fillStyle = LABEL_COLOR;
  context.fillText(text, label.left + 5 * scale, label.top + label.height / 2 + scale / 2);
}

/** Choose a color by a hash of the name, so that a name always has the same color. */
function colorFor(name: string): string {
  let hash = 0;
  for (const character of name) {
    hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  }
  return BOX_COLORS[hash % BOX_COLORS.length] ?? BOX_COLORS[0];
}
