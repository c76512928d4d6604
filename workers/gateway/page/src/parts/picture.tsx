// A camera's live picture with what was found in it, watched for as long as it is on the screen.

import { useEffect, useRef, useState } from "preact/hooks";
import { draw } from "../watching/draw";
import { shownWidth, whileInView } from "../watching/in_view";
import { type Decoded, view } from "../watching/screens";

interface Props {
  readonly camera: string;
  /** What it shows, for those who do not see it. */
  readonly label: string;
}

export function Picture({ camera, label }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [empty, setEmpty] = useState(true);

  useEffect(() => {
    const [box, surface] = [frame.current, canvas.current];
    if (box === null || surface === null) {
      return;
    }
    setEmpty(true);
    let last: Decoded | null = null;
    const redraw = () => {
      if (last !== null) {
        size(surface, box, last);
        draw(surface, last, window.devicePixelRatio);
        surface.dataset.frame = last.header.frame_id;
        surface.dataset.boxes = String(last.found?.length ?? "");
      }
    };
    const resized = new ResizeObserver(() => {
      shownWidth.value = box.clientWidth * window.devicePixelRatio;
      redraw();
    });
    resized.observe(box);
    const leaveView = whileInView(box, camera);
    const leave = view(camera, (shown) => {
      last = shown;
      setEmpty(false);
      redraw();
    });
    return () => {
      leave();
      leaveView();
      resized.disconnect();
    };
  }, [camera]);

  return (
    <div class="picture" ref={frame}>
      <canvas ref={canvas} role="img" aria-label={label} hidden={empty} />
    </div>
  );
}

/** As many pixels as the screen has for it, in the picture's own proportions but for what rounding makes of them. */
function size(canvas: HTMLCanvasElement, box: HTMLElement, { header }: Decoded): void {
  const [across, down] = [box.clientWidth * window.devicePixelRatio, box.clientHeight * window.devicePixelRatio];
  const scale = Math.min(across / header.width, down / header.height);
  const width = filling(header.width * scale, across);
  const height = filling(header.height * scale, down);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
}

/** A strip of a pixel or two is not left empty. */
function filling(pixels: number, room: number): number {
  return Math.round(room - pixels < 2 ? room : pixels);
}
