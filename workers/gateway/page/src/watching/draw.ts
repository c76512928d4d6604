// One picture and what was found in it, onto a canvas.

import type { Detection } from "../hub/model";
import { caption, labelled, placed } from "./boxes";
import type { Decoded } from "./screens";

// On pictures of any brightness; the label beside each says what it is, so these only keep neighbours apart.
const COLOURS = ["#ffd23f", "#4cc9f0", "#ff8fab", "#80ed99", "#ffa94d", "#cdb4ff"] as const;
const INK = "#10151c";
const FONT_PX = 12;

/** Fill the canvas, which is as many pixels wide as the screen shows of it, `scale` of them to a CSS pixel. */
export function draw(canvas: HTMLCanvasElement, shown: Decoded, scale: number): void {
  const context = canvas.getContext("2d", { alpha: false });
  if (context === null) {
    return;
  }
  context.drawImage(shown.picture, 0, 0, canvas.width, canvas.height);
  context.font = `600 ${FONT_PX * scale}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const found of shown.found ?? []) {
    drawBox(context, found, shown, scale);
  }
}

function drawBox(context: CanvasRenderingContext2D, found: Detection, shown: Decoded, scale: number): void {
  const { canvas } = context;
  const colour = colourOf(found.name);
  const box = placed(found.bounding_box, shown.header, canvas);
  // A dark line around a bright one is seen on snow and at night.
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 60%)";
  context.lineWidth = 4 * scale;
  context.strokeRect(box.left, box.top, box.width, box.height);
  context.strokeStyle = colour;
  context.lineWidth = 2 * scale;
  context.strokeRect(box.left, box.top, box.width, box.height);
  const text = caption(found);
  const width = context.measureText(text).width + 10 * scale;
  const label = labelled(box, { width, height: (FONT_PX + 6) * scale }, canvas);
  context.fillStyle = colour;
  context.fillRect(label.left, label.top, label.width, label.height);
  context.fillStyle = INK;
  context.fillText(text, label.left + 5 * scale, label.top + label.height / 2 + scale / 2);
}

/** The same for the same name, always. */
function colourOf(name: string): string {
  let sum = 0;
  for (const character of name) {
    sum = (sum * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  }
  return COLOURS[sum % COLOURS.length] ?? COLOURS[0];
}
