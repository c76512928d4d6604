// One camera: preview, statistics, charts, settings, errors and commands.

import { useEffect, useState } from "preact/hooks";
import { ApiError, getCamera as fetchCamera, getSnapshot, sendCameraCommand } from "../../api/client";
import { type Camera, type CameraDetail, type Counts, displayName, total } from "../../api/types";
import { ActionButton } from "../../components/action_button";
import { Badge } from "../../components/badge";
import { Icon } from "../../components/icon";
import { LivePreview } from "../../components/live_preview";
import { Stat } from "../../components/stat";
import { getCamera } from "../../state/fleet";
import { may } from "../../state/session";
import { cameraStatus } from "../../state/status";
import { now } from "../../ui/clock";
import {
  countNames,
  formatAge,
  formatBytes,
  formatCount,
  formatDuration,
  formatRate,
  formatReasons,
  formatTime,
  pluralize,
  UNKNOWN,
} from "../../ui/format";
import { notify } from "../../ui/notifications";
import { href } from "../../ui/router";
import { Charts } from "./charts";
import { RemoveCamera } from "./remove_camera";
import { flattenSettings } from "./settings";
import { Tuning } from "./tuning";

export function CameraPage({ id }: { readonly id: string }) {
  const camera = getCamera(id);
  const [detail, reload] = useDetail(id, camera);
  if (camera === undefined) {
    return (
      <p class="empty">
        This hub has no camera {id}. <a href={href({ view: "wall" })}>Show all cameras</a>
      </p>
    );
  }
  const status = cameraStatus(camera.state);
  return (
    <article class="camera" data-camera={id} data-state={camera.state}>
      <header class="camera-header">
        <a class="button button-icon" href={href({ view: "wall" })} aria-label="Back to all cameras">
          <Icon name="back" />
        </a>
        <h1>{displayName(camera)}</h1>
        <Badge status={status} />
        <span class="muted">for {formatDuration(secondsInState(camera, now.value))}</span>
        {camera.scheduled !== null && <span class="muted">scheduled: {camera.scheduled}</span>}
        {camera.limited_by !== null && <span class="muted">limited by {camera.limited_by}</span>}
        <Labels camera={camera} />
        <Actions camera={camera} />
      </header>
      {camera.error !== null && (
        <p class="alert" role="status">
          {camera.error}
        </p>
      )}
      <div class="columns">
        <div class="column">
          <div class={`camera-preview tile-${status.tone}`}>
            <LivePreview camera={id} label={`Live preview of ${displayName(camera)}`} />
          </div>
          <Stats camera={camera} />
          <Charts id={id} />
        </div>
        <div class="column">
          {detail !== null && may("control") && <Tuning detail={detail} onChanged={reload} />}
          <Counters camera={camera} />
          {detail !== null && <Errors detail={detail} />}
          {detail !== null && <Settings detail={detail} />}
        </div>
      </div>
    </article>
  );
}

/**
 * The camera's details, which the socket does not send, and a function that reloads them. A change of the camera's
 * state, error or overrides also reloads them.
 */
function useDetail(id: string, camera: Camera | undefined): [CameraDetail | null, () => void] {
  const [detail, setDetail] = useState<CameraDetail | null>(null);
  const [reloads, setReloads] = useState(0);
  const version = camera === undefined ? "" : JSON.stringify([camera.state, camera.error, camera.run_time]);

  useEffect(() => {
    const aborter = new AbortController();
    fetchCamera(id, aborter.signal).then(setDetail, (error: Error) => {
      const isRemoved = error instanceof ApiError && error.status === 404;
      if (!(aborter.signal.aborted || isRemoved)) {
        notify(error.message, "bad");
      }
    });
    return () => aborter.abort();
  }, [id, version, reloads]);

  return [detail?.id === id ? detail : null, () => setReloads((count) => count + 1)];
}

/** Seconds in the current state, but at least 1, because the hub's clock may differ from this machine's clock. */
function secondsInState(camera: Camera, nowMs: number): number {
  return Math.max(1, (nowMs - Date.parse(camera.since)) / 1000);
}

function Labels({ camera }: { readonly camera: Camera }) {
  return (
    <ul class="labels">
      {Object.entries(camera.labels).map(([key, value]) => (
        <li key={key}>
          {key}: {value}
        </li>
      ))}
    </ul>
  );
}

function Actions({ camera }: { readonly camera: Camera }) {
  const { id } = camera;
  return (
    <div class="actions">
      {may("control") && <RunButtons camera={camera} />}
      <ActionButton action={() => saveSnapshot(id)} success="Saved the snapshot.">
        Save snapshot
      </ActionButton>
      {may("admin") && <RemoveCamera camera={camera} />}
    </div>
  );
}

function RunButtons({ camera }: { readonly camera: Camera }) {
  const { id } = camera;
  const name = displayName(camera);
  return (
    <>
      {camera.paused ? (
        <ActionButton
          class="button button-primary"
          action={() => sendCameraCommand(id, "resume")}
          success={`Resumed ${name}.`}
        >
          <Icon name="play" /> Resume
        </ActionButton>
      ) : (
        <ActionButton action={() => sendCameraCommand(id, "pause")} success={`Paused ${name}.`}>
          <Icon name="pause" /> Pause
        </ActionButton>
      )}
      <ActionButton action={() => sendCameraCommand(id, "restart")} success={`${name} is restarting.`}>
        <Icon name="loop" /> Restart
      </ActionButton>
    </>
  );
}

async function saveSnapshot(id: string): Promise<void> {
  const url = URL.createObjectURL(await getSnapshot(id));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${id} ${new Date().toISOString().replaceAll(":", "-").slice(0, 19)}.jpg`;
  link.click();
  URL.revokeObjectURL(url);
}

function Stats({ camera }: { readonly camera: Camera }) {
  const { age_s, round_trip_s, worker } = camera;
  const age = (instant: string | null) => (instant === null ? "none" : formatAge(instant, now.value));
  return (
    <dl class="stats">
      <Stat label="In">{formatRate(camera.rate_in)}/s</Stat>
      {camera.profile !== null && (
        <Stat label="Profile" hint="Chosen over ONVIF for the maximum width and the rate">
          {camera.profile}
        </Stat>
      )}
      <Stat label="Out" hint={`Target: ${camera.scheduled ?? `${camera.fps ?? "unknown"} frames per second`}`}>
        {formatRate(camera.rate_out)}/s
      </Stat>
      <Stat label="Age, p50 and p99" hint="Time from capture to sending">
        {age_s === null ? UNKNOWN : `${formatDuration(age_s.p50)}, ${formatDuration(age_s.p99)}`}
      </Stat>
      <Stat label="Time to result" hint="Median time from sending to the result">
        {round_trip_s === null ? UNKNOWN : formatDuration(round_trip_s.p50)}
      </Stat>
      <Stat label="Last frame">{age(camera.last_picture_at)}</Stat>
      <Stat label="Last result">{age(camera.last_result_at)}</Stat>
      <Stat label="Detected">{countNames(camera.seen) || "nothing"}</Stat>
      <Stat label="Sent">
        {pluralize(camera.sent, "frame")}, {formatBytes(camera.sent_bytes)}
      </Stat>
      <Stat label="Results">{formatCount(camera.results_received)}</Stat>
      <Stat label="Results in spool" hint="Not yet accepted by Redis">
        {formatCount(camera.spool)}
      </Stat>
      <Stat label="Worker">{worker.pid === null ? "none" : `PID ${worker.pid}`}</Stat>
      <Stat label="CPU" hint="Cores">
        {worker.cpu === null ? UNKNOWN : worker.cpu.toFixed(2)}
      </Stat>
      <Stat label="Memory">{worker.memory_bytes === null ? UNKNOWN : formatBytes(worker.memory_bytes)}</Stat>
    </dl>
  );
}

function Counters({ camera }: { readonly camera: Camera }) {
  const counters: readonly (readonly [string, Counts])[] = [
    ["Dropped frames", camera.dropped],
    ["Frames without a result", camera.unanswered],
    ["Lost results", camera.results_lost],
    ["Camera reconnects", camera.reconnects.camera],
    ["Service reconnects", camera.reconnects.uplink],
    ["Worker restarts", camera.restarts],
  ];
  return (
    <section class="panel">
      <h2>Counters</h2>
      <table>
        <tbody>
          {counters.map(([label, counts]) => (
            <tr key={label}>
              <th scope="row">{label}</th>
              <td class="number">{formatCount(total(counts))}</td>
              <td class="details">{formatReasons(counts)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Errors({ detail }: { readonly detail: CameraDetail }) {
  return (
    <section class="panel">
      <h2>Recent errors</h2>
      {detail.errors.length === 0 ? (
        <p>No errors since the gateway started.</p>
      ) : (
        <ol class="errors" reversed>
          {detail.errors.toReversed().map(({ at, error }) => (
            <li key={at + error}>
              <time dateTime={at} title={new Date(at).toLocaleString("en-GB")}>
                {formatTime(at)}
              </time>{" "}
              {error}
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function Settings({ detail }: { readonly detail: CameraDetail }) {
  const overridden = new Set(Object.keys(detail.run_time.set));
  return (
    <details class="panel">
      <summary>
        <h2>Active settings</h2>
      </summary>
      <dl class="settings">
        {flattenSettings(detail.settings).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              {value}
              {overridden.has(name.replace("nvision.", "")) && <em> changed at run time</em>}
            </dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
