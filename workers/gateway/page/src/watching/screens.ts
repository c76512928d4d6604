// Cameras that are shown somewhere on the page: their previews decoded, one at a time each, and handed to whoever draws.

import { detections, type ResultEvent } from "../hub/model";
import type { Preview } from "../hub/preview";
import { Pairing, type Shown } from "./pairing";

export type Draw = (shown: Shown<ImageBitmap>) => void;

class Screen {
  readonly viewers = new Set<Draw>();
  readonly pairing = new Pairing<ImageBitmap>((shown) => {
    for (const draw of this.viewers) {
      draw(shown);
    }
  });
  private next: Preview | null = null;
  private decoding = false;

  /** A preview came: the newest wins over one that still waits to be decoded. */
  async preview(preview: Preview): Promise<void> {
    this.next = preview;
    if (this.decoding) {
      return;
    }
    this.decoding = true;
    while (this.next !== null) {
      const { header, jpeg }: Preview = this.next;
      this.next = null;
      const bitmap = await decoded(jpeg);
      if (bitmap !== null && this.viewers.size > 0) {
        this.pairing.picture(header, bitmap);
      } else {
        bitmap?.close();
      }
    }
    this.decoding = false;
  }
}

/** Null for a JPEG that cannot be decoded: the next one may be whole. */
async function decoded(jpeg: Uint8Array<ArrayBuffer>): Promise<ImageBitmap | null> {
  try {
    return await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  } catch {
    return null;
  }
}

const screens = new Map<string, Screen>();

/** Draw a camera's pictures from now on. Call what is returned to end that. */
export function view(camera: string, draw: Draw): () => void {
  const screen = screens.get(camera) ?? new Screen();
  screens.set(camera, screen);
  screen.viewers.add(draw);
  if (screen.pairing.shown !== null) {
    draw(screen.pairing.shown);
  }
  return () => {
    screen.viewers.delete(draw);
    if (screen.viewers.size === 0) {
      screen.pairing.close();
      screens.delete(camera);
    }
  };
}

export function showPreview(preview: Preview): void {
  void screens.get(preview.header.camera)?.preview(preview);
}

export function showResult(event: ResultEvent): void {
  screens.get(event.hub.camera)?.pairing.result(event.frame_id, detections(event));
}
