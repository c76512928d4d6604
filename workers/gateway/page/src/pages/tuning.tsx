// Rate and quality of one camera: tried out with what it would cost, then asked for.

import { useEffect, useState } from "preact/hooks";
import { change, tuning } from "../hub/api";
import { type CameraDetail, type Tuning as Cost, type RunTimeSettings, title } from "../hub/model";
import { bytes, count } from "../look/wording";
import { OrderButton } from "../parts/button";
import { Slider } from "../parts/slider";
import { difference, FPS, inForce, QUALITIES, THRESHOLDS, WIDTHS } from "./settings";

const SETTLED_MS = 250; // a slider that is being dragged asks for nothing
const AGAIN_MS = 5000; // a camera that has sent no picture yet may have by then

export function Tuning({ detail, onChanged }: { readonly detail: CameraDetail; readonly onChanged: () => void }) {
  const now = inForce(detail);
  if (now === null) {
    return null;
  }
  return <Draft key={JSON.stringify(now)} detail={detail} now={now} onChanged={onChanged} />;
}

interface DraftProps {
  readonly detail: CameraDetail;
  readonly now: RunTimeSettings;
  readonly onChanged: () => void;
}

function Draft({ detail, now, onChanged }: DraftProps) {
  const [wanted, setWanted] = useState(now);
  const asked = difference(now, wanted);
  const changed = Object.keys(asked).length > 0;
  const { file } = detail.run_time;
  const set = (part: Partial<RunTimeSettings>) => setWanted({ ...wanted, ...part });
  const ofFile = (name: "fps" | "jpeg_quality" | "confidence_threshold"): number | null => {
    const value = file[name];
    return value === undefined || value === wanted[name] ? null : value;
  };
  const unlimited = Number.POSITIVE_INFINITY;
  const fileWidth = file.max_width === undefined ? null : (file.max_width ?? unlimited);
  const width = wanted.max_width ?? unlimited;
  return (
    <section class="panel" aria-label="Rate and quality">
      <h2>Rate and quality</h2>
      <Slider
        label="Pictures a second"
        value={wanted.fps}
        steps={FPS}
        shown={(value) => `${value}/s`}
        onChange={(fps) => set({ fps })}
        file={ofFile("fps")}
      />
      <Slider
        label="JPEG quality"
        value={wanted.jpeg_quality}
        steps={QUALITIES}
        shown={String}
        onChange={(quality) => set({ jpeg_quality: quality })}
        file={ofFile("jpeg_quality")}
      />
      <Slider
        label="Widest picture"
        value={width}
        steps={[...WIDTHS, unlimited]}
        shown={(value) => (value === unlimited ? "as it comes" : `${value} px`)}
        onChange={(value) => set({ max_width: value === unlimited ? null : value })}
        file={fileWidth === width ? null : fileWidth}
      />
      <Slider
        label="Least confidence"
        value={wanted.confidence_threshold}
        steps={THRESHOLDS}
        shown={(value) => `${Math.round(value * 100)} %`}
        onChange={(threshold) => set({ confidence_threshold: threshold })}
        file={ofFile("confidence_threshold")}
      />
      <Preview id={detail.id} wanted={wanted} />
      <div class="actions">
        <OrderButton
          class="button button-main"
          disabled={!changed}
          order={async () => {
            await change(detail.id, asked);
            onChanged();
          }}
          done={`${title(detail)} has its new settings.`}
        >
          Apply
        </OrderButton>
        <button type="button" class="button" disabled={!changed} onClick={() => setWanted(now)}>
          Discard
        </button>
      </div>
    </section>
  );
}

/** What the camera would cost like this, measured by the hub on its last picture. */
function Preview({ id, wanted }: { readonly id: string; readonly wanted: RunTimeSettings }) {
  const [cost, setCost] = useState<Cost | string | null>(null);
  const { fps, jpeg_quality, max_width } = wanted;

  useEffect(() => {
    const leaving = new AbortController();
    let timer = setTimeout(measure, SETTLED_MS);
    function measure(): void {
      tuning(id, wanted, leaving.signal).then(setCost, (error: Error) => {
        if (!leaving.signal.aborted) {
          setCost(error.message);
          timer = setTimeout(measure, AGAIN_MS);
        }
      });
    }
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [id, fps, jpeg_quality, max_width]);

  return (
    <p class="cost" aria-live="polite">
      {typeof cost === "string" && cost}
      {cost === null && "Measuring …"}
      {cost !== null && typeof cost !== "string" && (
        <>
          <b>{bytes(cost.bytes_per_hour)}</b> an hour, <b>{count(cost.images_per_day)}</b> images a day; a picture of{" "}
          {cost.width} × {cost.height} is {bytes(cost.bytes_per_picture)}
        </>
      )}
    </p>
  );
}
