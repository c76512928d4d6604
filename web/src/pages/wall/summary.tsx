// Status filters with the number of cameras for each status, and statistics of the whole fleet.

import { Icon } from "../../components/icon";
import { Stat } from "../../components/stat";
import { cameras, hub, resultsPerSecond } from "../../state/fleet";
import { cameraStatus } from "../../state/status";
import { formatCount, formatRate, UNKNOWN } from "../../ui/format";
import type { StatusFilter } from "./camera_filter";
import { statusFilter } from "./wall_settings";

const FILTERS: readonly (readonly [StatusFilter, string])[] = [
  ["all", "All"],
  ["good", "Streaming"],
  ["bad", "Failing"],
  ["waiting", "Connecting"],
  ["idle", "Paused"],
];

export function Summary() {
  const all = cameras.value;
  const tones = all.map((camera) => cameraStatus(camera.state).tone);
  const countOf = (status: StatusFilter) =>
    status === "all" ? all.length : tones.filter((tone) => tone === status).length;
  const rateOrUnknown = (rate: number) => (hub.value === null ? UNKNOWN : formatRate(rate));
  return (
    <div class="summary">
      <fieldset class="chips">
        <legend class="visually-hidden">Filter by status</legend>
        {FILTERS.map(([status, label]) => (
          <button
            type="button"
            key={status}
            class={`chip chip-${countOf(status) > 0 ? status : "none"}`}
            aria-pressed={statusFilter.value === status}
            onClick={() => {
              statusFilter.value = status;
            }}
          >
            {label} <b>{formatCount(countOf(status))}</b>
          </button>
        ))}
      </fieldset>
      <dl class="stats">
        <Stat label="Frames/s">{rateOrUnknown(all.reduce((sum, camera) => sum + camera.rate_out, 0))}</Stat>
        <Stat label="Results/s">{rateOrUnknown(resultsPerSecond.value)}</Stat>
        <Health label="Redis" isUp={hub.value?.broker_up ?? null} />
        <Health label="Service" isUp={hub.value?.service_up ?? null} />
      </dl>
    </div>
  );
}

function Health({ label, isUp }: { readonly label: string; readonly isUp: boolean | null }) {
  return (
    <Stat label={label}>
      {isUp === null ? (
        UNKNOWN
      ) : (
        <span class={`badge tone-${isUp ? "good" : "bad"}`}>
          <Icon name={isUp ? "check" : "cross"} />
          {isUp ? "Up" : "Down"}
        </span>
      )}
    </Stat>
  );
}
