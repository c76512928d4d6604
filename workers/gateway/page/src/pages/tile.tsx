// One camera on the wall.

import { order as giveOrder } from "../hub/api";
import { camera as cameraOf } from "../hub/fleet";
import { type Camera, title, total } from "../hub/model";
import { cameraLook } from "../hub/states";
import { now } from "../look/clock";
import { href } from "../look/routes";
import { ago, count, duration, rate, spoken, tallied } from "../look/wording";
import { Badge } from "../parts/badge";
import { OrderButton } from "../parts/button";
import { Icon } from "../parts/icon";
import { Picture } from "../parts/picture";

export function Tile({ id }: { readonly id: string }) {
  const camera = cameraOf(id);
  if (camera === undefined) {
    return null;
  }
  const look = cameraLook(camera.state);
  const name = title(camera);
  return (
    <li class={`tile tile-${look.tone}`} data-camera={id} data-state={camera.state}>
      <a class="tile-picture" href={href({ view: "camera", id })} aria-label={`${name}, ${look.label}`}>
        <Picture camera={id} label={`Live picture of ${name}`} />
        {look.tone !== "good" && (
          <span class="veil">
            <Icon name={look.shape} />
            {camera.error ?? look.label}
          </span>
        )}
      </a>
      <div class="tile-head">
        <a class="tile-name" href={href({ view: "camera", id })} tabIndex={-1} title={id}>
          {name}
        </a>
        <Badge look={look} />
        <PauseButton camera={camera} />
      </div>
      <dl class="tile-figures">
        <Small label="in" value={`${rate(camera.rate_in)}/s`} />
        <Small label="out" value={`${rate(camera.rate_out)}/s`} hint={asked(camera)} />
        <Small label="age" value={camera.age_s === null ? "–" : duration(camera.age_s.p50)} hint="capture to sending" />
        <Small label="drops" value={count(total(camera.dropped))} hint={reasons(camera)} />
      </dl>
      <p class="tile-note">{note(camera)}</p>
    </li>
  );
}

function PauseButton({ camera }: { readonly camera: Camera }) {
  const verb = camera.paused ? "resume" : "pause";
  return (
    <OrderButton
      class="button button-icon"
      label={`${camera.paused ? "Resume" : "Pause"} ${title(camera)}`}
      order={() => giveOrder(camera.id, verb)}
      done={`${title(camera)} ${camera.paused ? "resumes" : "is paused"}.`}
    >
      <Icon name={camera.paused ? "play" : "pause"} />
    </OrderButton>
  );
}

function Small({ label, value, hint }: { readonly label: string; readonly value: string; readonly hint?: string }) {
  return (
    <div title={hint}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function asked(camera: Camera): string {
  return camera.fps === null ? "pictures sent" : `${camera.fps} a second asked for`;
}

function reasons(camera: Camera): string {
  return Object.entries(camera.dropped)
    .filter(([, dropped]) => dropped > 0)
    .map(([reason, dropped]) => `${spoken(reason)}: ${count(dropped)}`)
    .join(", ");
}

/** What is seen; of one that does not stream, since when; of one that does all the same, what is wrong. */
function note(camera: Camera): string {
  if (camera.state !== "streaming") {
    return camera.last_picture_at === null
      ? "no picture yet"
      : `last picture ${ago(camera.last_picture_at, now.value)}`;
  }
  if (camera.error !== null) {
    return camera.error;
  }
  return tallied(camera.seen) || "nothing seen";
}
