// Cameras that are shown somewhere on the page: what is to be shown of each is decoded, and handed to whoever draws.

import { camera as cameraOf } from "../hub/fleet";
import { type Detection, detections, type PreviewHeader, type ResultEvent } from "../hub/model";
import type { Preview } from "../hub/preview";
import { Pairing, type Shown } from "./pairing";

const HOLD_LEAST_MS = 3000;
const HOLD_MOST_MS = 20_000;

export interface Decoded {
  readonly header: PreviewHeader;
  /** Closed once another takes its place. */
  readonly picture: ImageBitmap;
  readonly found: readonly Detection[] | null;
}

export type Draw = (shown: Decoded) => void;

class Screen {
  readonly viewers = new Set<Draw>();
  readonly pairing: Pairing;
  now: Decoded | null = null;
  private next: Shown | null = null;
  private decoding = false;

  constructor(camera: string) {
    this.pairing = new Pairing(
      (shown) => {
        this.next = shown; // the newest wins over one that still waits to be decoded
        if (!this.decoding) {
          void this.decode();
        }
      },
      () => holdMs(camera),
    );
  }

  close(): void {
    this.pairing.close();
    this.now?.picture.close();
    this.now = null;
    this.next = null;
  }

  private async decode(): Promise<void> {
    this.decoding = true;
    while (this.next !== null) {
      const { preview, found }: Shown = this.next;
      this.next = null;
      if (preview.header.frame_id === this.now?.header.frame_id) {
        this.draw({ ...this.now, found });
        continue;
      }
      const picture = await decoded(preview);
      if (picture !== null && this.viewers.size > 0) {
        const before = this.now;
        this.draw({ header: preview.header, picture, found });
        before?.picture.close();
      } else {
        picture?.close();
      }
    }
    this.decoding = false;
  }

  private draw(shown: Decoded): void {
    this.now = shown;
    for (const draw of this.viewers) {
      draw(shown);
    }
  }
}

/** Twice as long as the slowest results of the last minute took, within bounds. */
function holdMs(camera: string): number {
  const slowest = (cameraOf(camera)?.round_trip_s?.p99 ?? 0) * 1000;
  return Math.min(Math.max(2 * slowest, HOLD_LEAST_MS), HOLD_MOST_MS);
}

/** Null for a JPEG that cannot be decoded: the next one may be whole. */
async function decoded({ jpeg }: Preview): Promise<ImageBitmap | null> {
  try {
    return await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  } catch {
    return null;
  }
}

const screens = new Map<string, Screen>();

/** Draw a camera's pictures from now on. Call what is returned to end that. */
export function view(camera: string, draw: Draw): () => void {
  const screen = screens.get(camera) ?? new Screen(camera);
  screens.set(camera, screen);
  screen.viewers.add(draw);
  if (screen.now !== null) {
    draw(screen.now);
  }
  return () => {
    screen.viewers.delete(draw);
    if (screen.viewers.size === 0) {
      screen.close();
      screens.delete(camera);
    }
  };
}

export function showPreview(preview: Preview): void {
  screens.get(preview.header.camera)?.pairing.picture(preview);
}

export function showResult(event: ResultEvent): void {
  screens.get(event.hub.camera)?.pairing.result(event.frame_id, detections(event));
}
