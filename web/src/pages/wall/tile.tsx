// Tile of one camera on the wall.

import { sendCameraCommand } from "../../api/client";
import { type Camera, displayName, total } from "../../api/types";
import { ActionButton } from "../../components/action_button";
import { Badge } from "../../components/badge";
import { Icon } from "../../components/icon";
import { LivePreview } from "../../components/live_preview";
import { getCamera } from "../../state/fleet";
import { may } from "../../state/session";
import { cameraStatus } from "../../state/status";
import { now } from "../../ui/clock";
import {
  countNames,
  formatAge,
  formatCount,
  formatDuration,
  formatRate,
  formatReasons,
  UNKNOWN,
} from "../../ui/format";
import { href } from "../../ui/router";

export function Tile({ id }: { readonly id: string }) {
  const camera = getCamera(id);
  if (camera === undefined) {
    return null;
  }
  const status = cameraStatus(camera.state);
  const name = displayName(camera);
  return (
    <li class={`tile tile-${status.tone}`} data-camera={id} data-state={camera.state}>
      <a class="tile-preview" href={href({ view: "camera", id })} aria-label={`${name}, ${status.label}`}>
        <LivePreview camera={id} label={`Live preview of ${name}`} />
        {status.tone !== "good" && (
          <span class="overlay">
            <Icon name={status.shape} />
            {camera.error ?? status.label}
          </span>
        )}
      </a>
      <div class="tile-header">
        <a class="tile-name" href={href({ view: "camera", id })} tabIndex={-1} title={id}>
          {name}
        </a>
        <Badge status={status} />
        {may("control") && <PauseButton camera={camera} />}
      </div>
      <dl class="tile-stats">
        <TileStat label="In" value={`${formatRate(camera.rate_in)}/s`} hint="Frames per second from the camera" />
        <TileStat label="Out" value={`${formatRate(camera.rate_out)}/s`} hint={rateHint(camera)} />
        <TileStat
          label="Age"
          value={camera.age_s === null ? UNKNOWN : formatDuration(camera.age_s.p50)}
          hint="Median time from capture to sending"
        />
        <TileStat label="Drops" value={formatCount(total(camera.dropped))} hint={formatReasons(camera.dropped)} />
      </dl>
      <p class="tile-note">{tileNote(camera)}</p>
    </li>
  );
}

function PauseButton({ camera }: { readonly camera: Camera }) {
  const name = displayName(camera);
  return camera.paused ? (
    <ActionButton
      class="button button-icon"
      label={`Resume ${name}`}
      action={() => sendCameraCommand(camera.id, "resume")}
      success={`Resumed ${name}.`}
    >
      <Icon name="play" />
    </ActionButton>
  ) : (
    <ActionButton
      class="button button-icon"
      label={`Pause ${name}`}
      action={() => sendCameraCommand(camera.id, "pause")}
      success={`Paused ${name}.`}
    >
      <Icon name="pause" />
    </ActionButton>
  );
}

function TileStat({ label, value, hint }: { readonly label: string; readonly value: string; readonly hint: string }) {
  return (
    <div title={hint}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function rateHint({ fps, scheduled }: Camera): string {
  if (scheduled !== null) {
    return `Frames per second sent to the service; scheduled: ${scheduled}`;
  }
  return fps === null
    ? "Frames per second sent to the service"
    : `Frames per second sent to the service; target: ${fps}`;
}

/** Error or detected objects of a streaming camera; for other cameras, the age of the last frame. */
function tileNote(camera: Camera): string {
  const notes = [stateNote(camera)];
  if (camera.limited_by !== null) {
    notes.unshift(`Limited by ${camera.limited_by}`);
  }
  if (camera.scheduled !== null) {
    notes.unshift(`Scheduled: ${camera.scheduled}`);
  }
  return notes.join(". ");
}

function stateNote(camera: Camera): string {
  if (camera.state !== "streaming") {
    return camera.last_picture_at === null
      ? "No frame yet"
      : `Last frame ${formatAge(camera.last_picture_at, now.value)}`;
  }
  return camera.error ?? (countNames(camera.seen) || "No detections");
}
