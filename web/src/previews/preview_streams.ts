// Previews of the cameras on the page. Each preview is matched with its result, decoded, and passed to subscribers.

import type { Preview } from "../api/preview_message";
import { allDetections, type Detection, type PreviewHeader, type ResultEvent } from "../api/types";
import { getCamera } from "../state/fleet";
import { FrameMatcher, type MatchedFrame } from "./frame_matcher";

const MIN_RESULT_WAIT_MS = 3000;
const MAX_RESULT_WAIT_MS = 20_000;

export interface DecodedFrame {
  readonly header: PreviewHeader;
  /** Valid until the listeners have received the next frame. */
  readonly image: ImageBitmap;
  readonly detections: readonly Detection[] | null;
}

export type FrameListener = (frame: DecodedFrame) => void;

class PreviewStream {
  readonly listeners = new Set<FrameListener>();
  readonly matcher: FrameMatcher;
  current: DecodedFrame | null = null;
  private next: MatchedFrame | null = null; // latest-value slot: a newer frame replaces a frame that waits for decoding
  private isDecoding = false;

  constructor(camera: string) {
    this.matcher = new FrameMatcher(
      (frame) => {
        this.next = frame;
        if (!this.isDecoding) {
          void this.decodeAll();
        }
      },
      () => resultWaitMs(camera),
    );
  }

  close(): void {
    this.matcher.clear();
    this.current?.image.close();
    this.current = null;
    this.next = null;
  }

  private async decodeAll(): Promise<void> {
    this.isDecoding = true;
    while (this.next !== null) {
      const { preview, detections }: MatchedFrame = this.next;
      this.next = null;
      if (preview.header.frame_id === this.current?.header.frame_id) {
        this.emit({ ...this.current, detections });
        continue;
      }
      const image = await decodeJpeg(preview);
      if (image !== null && this.listeners.size > 0) {
        const previous = this.current;
        this.emit({ header: preview.header, image, detections });
        previous?.image.close();
      } else {
        image?.close();
      }
    }
    this.isDecoding = false;
  }

  private emit(frame: DecodedFrame): void {
    this.current = frame;
    for (const listener of this.listeners) {
      listener(frame);
    }
  }
}

/** Maximum time to wait for a result: twice the 99th percentile of the camera's recent round trips, within bounds. */
function resultWaitMs(camera: string): number {
  const roundTripMs = (getCamera(camera)?.round_trip_s?.p99 ?? 0) * 1000;
  return Math.min(Math.max(2 * roundTripMs, MIN_RESULT_WAIT_MS), MAX_RESULT_WAIT_MS);
}

/** Decode a JPEG; null if it is corrupt. */
async function decodeJpeg({ jpeg }: Preview): Promise<ImageBitmap | null> {
  try {
    return await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  } catch {
    return null;
  }
}

const streams = new Map<string, PreviewStream>();

/** Pass every frame of a camera to a listener. Return a function that ends the subscription. */
export function subscribe(camera: string, listener: FrameListener): () => void {
  const stream = streams.get(camera) ?? new PreviewStream(camera);
  streams.set(camera, stream);
  stream.listeners.add(listener);
  if (stream.current !== null) {
    listener(stream.current);
  }
  return () => {
    stream.listeners.delete(listener);
    if (stream.listeners.size === 0) {
      stream.close();
      streams.delete(camera);
    }
  };
}

export function pushPreview(preview: Preview): void {
  streams.get(preview.header.camera)?.matcher.addFrame(preview);
}

export function pushResult(event: ResultEvent): void {
  streams.get(event.hub.camera)?.matcher.addResult(event.frame_id, allDetections(event));
}
