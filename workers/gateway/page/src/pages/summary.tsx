// The fleet in one line: how many of what, which are also the wall's filters, and what flows.

import { cameras, hub, resultsPerSecond } from "../hub/fleet";
import { cameraLook } from "../hub/states";
import { count, rate } from "../look/wording";
import { Figure } from "../parts/figure";
import { Icon } from "../parts/icon";
import type { Group } from "./arrange";
import { group } from "./wall_choices";

const GROUPS: readonly (readonly [Group, string])[] = [
  ["all", "All"],
  ["good", "Streaming"],
  ["bad", "In trouble"],
  ["waiting", "Connecting"],
  ["idle", "Paused"],
];

export function Summary() {
  const all = cameras.value;
  const tones = all.map((camera) => cameraLook(camera.state).tone);
  const many = (of: Group) => (of === "all" ? all.length : tones.filter((tone) => tone === of).length);
  return (
    <div class="summary">
      <fieldset class="chips">
        <legend class="unseen">Show</legend>
        {GROUPS.map(([of, label]) => (
          <button
            type="button"
            key={of}
            class={`chip chip-${many(of) > 0 ? of : "none"}`}
            aria-pressed={group.value === of}
            onClick={() => {
              group.value = of;
            }}
          >
            {label} <b>{count(many(of))}</b>
          </button>
        ))}
      </fieldset>
      <dl class="figures">
        <Figure label="pictures/s">{rate(all.reduce((sum, camera) => sum + camera.rate_out, 0))}</Figure>
        <Figure label="results/s">{rate(resultsPerSecond.value)}</Figure>
        <Up label="Broker" up={hub.value?.broker_up ?? null} />
        <Up label="Service" up={hub.value?.service_up ?? null} />
      </dl>
    </div>
  );
}

function Up({ label, up }: { readonly label: string; readonly up: boolean | null }) {
  return (
    <Figure label={label}>
      {up === null ? (
        "–"
      ) : (
        <span class={`updown tone-${up ? "good" : "bad"}`}>
          <Icon name={up ? "check" : "cross"} />
          {up ? "up" : "down"}
        </span>
      )}
    </Figure>
  );
}
