// Form for a camera's run-time settings, with an estimate of their cost.

import { useEffect, useState } from "preact/hooks";
import { estimateCost, updateCamera } from "../../api/client";
import { type CameraDetail, displayName, type FrameCost, type RuntimeSettings } from "../../api/types";
import { ActionButton } from "../../components/action_button";
import { Slider } from "../../components/slider";
import { formatBytes, formatCount } from "../../ui/format";
import { activeSettings, changedSettings, FPS, QUALITIES, THRESHOLDS, WIDTHS } from "./settings";

const DRAG_SETTLE_MS = 250; // delay between the last change and the request for an estimate
const RETRY_MS = 5000; // after an error, for example because the camera has no frame yet
const UNLIMITED = Number.POSITIVE_INFINITY; // slider value if `max_width` is null

interface Props {
  readonly detail: CameraDetail;
  readonly onChanged: () => void;
}

export function Tuning({ detail, onChanged }: Props) {
  const active = activeSettings(detail);
  if (active === null) {
    return null;
  }
  return <TuningForm key={JSON.stringify(active)} detail={detail} active={active} onChanged={onChanged} />;
}

function TuningForm({ detail, active, onChanged }: Props & { readonly active: RuntimeSettings }) {
  const [draft, setDraft] = useState(active);
  const changes = changedSettings(active, draft);
  const hasChanges = Object.keys(changes).length > 0;
  const { file } = detail.run_time;
  const set = (change: Partial<RuntimeSettings>) => setDraft({ ...draft, ...change });
  const fileValue = (name: "fps" | "jpeg_quality" | "confidence_threshold"): number | null => {
    const value = file[name];
    return value === undefined || value === draft[name] ? null : value;
  };
  const fileWidth = file.max_width === undefined ? null : (file.max_width ?? UNLIMITED);
  const width = draft.max_width ?? UNLIMITED;
  return (
    <section class="panel" aria-label="Rate and quality">
      <h2>Rate and quality</h2>
      <Slider
        label="Frames per second"
        value={draft.fps}
        steps={FPS}
        format={(value) => `${value}/s`}
        onChange={(fps) => set({ fps })}
        fileValue={fileValue("fps")}
      />
      <Slider
        label="JPEG quality"
        value={draft.jpeg_quality}
        steps={QUALITIES}
        format={String}
        onChange={(quality) => set({ jpeg_quality: quality })}
        fileValue={fileValue("jpeg_quality")}
      />
      <Slider
        label="Maximum width"
        value={width}
        steps={[...WIDTHS, UNLIMITED]}
        format={(value) => (value === UNLIMITED ? "unlimited" : `${value} px`)}
        onChange={(value) => set({ max_width: value === UNLIMITED ? null : value })}
        fileValue={fileWidth === width ? null : fileWidth}
      />
      <Slider
        label="Minimum confidence"
        value={draft.confidence_threshold}
        steps={THRESHOLDS}
        format={(value) => `${Math.round(value * 100)} %`}
        onChange={(threshold) => set({ confidence_threshold: threshold })}
        fileValue={fileValue("confidence_threshold")}
      />
      <CostEstimate id={detail.id} draft={draft} />
      <div class="actions">
        <ActionButton
          class="button button-primary"
          disabled={!hasChanges}
          action={async () => {
            await updateCamera(detail.id, changes);
            onChanged();
          }}
          success={`Changed the settings of ${displayName(detail)}.`}
        >
          Apply
        </ActionButton>
        <button type="button" class="button" disabled={!hasChanges} onClick={() => setDraft(active)}>
          Discard
        </button>
      </div>
    </section>
  );
}

/** Cost under the draft settings, which the hub measures on the camera's last frame. */
function CostEstimate({ id, draft }: { readonly id: string; readonly draft: RuntimeSettings }) {
  const [cost, setCost] = useState<FrameCost | string | null>(null); // a string is an error message
  const { fps, jpeg_quality, max_width } = draft;

  useEffect(() => {
    const aborter = new AbortController();
    let timer = setTimeout(estimate, DRAG_SETTLE_MS);
    function estimate(): void {
      estimateCost(id, draft, aborter.signal).then(setCost, (error: Error) => {
        if (!aborter.signal.aborted) {
          setCost(error.message);
          timer = setTimeout(estimate, RETRY_MS);
        }
      });
    }
    return () => {
      clearTimeout(timer);
      aborter.abort();
    };
  }, [id, fps, jpeg_quality, max_width]);

  return (
    <p class="cost" aria-live="polite">
      {typeof cost === "string" && cost}
      {cost === null && "Measuring…"}
      {cost !== null && typeof cost !== "string" && (
        <>
          <b>{formatBytes(cost.bytes_per_hour)}</b> per hour, <b>{formatCount(cost.images_per_day)}</b> images per day;{" "}
          {formatBytes(cost.bytes_per_picture)} per frame of {cost.width} × {cost.height} pixels
        </>
      )}
    </p>
  );
}
