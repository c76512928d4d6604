// Live preview of a camera with its detections. Requests previews while the component is on the screen.

import { useEffect, useRef, useState } from "preact/hooks";
import { drawFrame } from "../previews/draw_frame";
import { type DecodedFrame, subscribe } from "../previews/preview_streams";
import { displayWidth, trackVisibility } from "../previews/visible_cameras";

interface Props {
  readonly camera: string;
  /** Text alternative. */
  readonly label: string;
}

export function LivePreview({ camera, label }: Props) {
  const containerRef = useRef<HTMLDivElement>(null);
  const canvasRef = useRef<HTMLCanvasElement>(null);
  const [isEmpty, setEmpty] = useState(true);

  useEffect(() => {
    const [container, canvas] = [containerRef.current, canvasRef.current];
    if (container === null || canvas === null) {
      return;
    }
    setEmpty(true);
    let last: DecodedFrame | null = null;
    const redraw = () => {
      if (last !== null) {
        fitCanvas(canvas, container, last);
        drawFrame(canvas, last, window.devicePixelRatio);
        canvas.dataset.frame = last.header.frame_id;
        canvas.dataset.boxes = String(last.detections?.length ?? "");
      }
    };
    const observer = new ResizeObserver(() => {
      displayWidth.value = container.clientWidth * window.devicePixelRatio;
      redraw();
    });
    observer.observe(container);
    const stopTracking = trackVisibility(container, camera);
    const unsubscribe = subscribe(camera, (frame) => {
      last = frame;
      setEmpty(false);
      redraw();
    });
    return () => {
      unsubscribe();
      stopTracking();
      observer.disconnect();
    };
  }, [camera]);

  return (
    <div class="preview" ref={containerRef}>
      <canvas ref={canvasRef} role="img" aria-label={label} hidden={isEmpty} />
    </div>
  );
}

/** Size the canvas to the device pixels of its container, in the frame's aspect ratio. */
function fitCanvas(canvas: HTMLCanvasElement, container: HTMLElement, { header }: DecodedFrame): void {
  const maxWidth = container.clientWidth * window.devicePixelRatio;
  const maxHeight = container.clientHeight * window.devicePixelRatio;
  const scale = Math.min(maxWidth / header.width, maxHeight / header.height);
  const width = snapToEdge(header.width * scale, maxWidth);
  const height = snapToEdge(header.height * scale, maxHeight);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
}

/** Round a size in pixels. If fewer than two pixels would remain unused, return the available size. */
function snapToEdge(pixels: number, available: number): number {
  return Math.round(available - pixels < 2 ? available : pixels);
}
