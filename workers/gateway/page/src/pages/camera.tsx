// One camera: its picture, its last half an hour, what it runs with and what can be done about it.

import { useEffect, useState } from "preact/hooks";
import { cameraDetail, order, Refusal, snapshot } from "../hub/api";
import { camera as cameraOf } from "../hub/fleet";
import { type Camera, type CameraDetail, type Counts, title, total } from "../hub/model";
import { cameraLook } from "../hub/states";
import { tell } from "../look/announce";
import { now } from "../look/clock";
import { href } from "../look/routes";
import { ago, bytes, clock, count, duration, rate, spoken, tallied } from "../look/wording";
import { Badge } from "../parts/badge";
import { OrderButton } from "../parts/button";
import { Figure } from "../parts/figure";
import { Icon } from "../parts/icon";
import { Picture } from "../parts/picture";
import { Charts } from "./charts";
import { RemoveCamera } from "./remove_camera";
import { flat } from "./settings";
import { Tuning } from "./tuning";

export function CameraPage({ id }: { readonly id: string }) {
  const camera = cameraOf(id);
  const [detail, askAgain] = useDetail(id, camera);
  if (camera === undefined) {
    return (
      <p class="empty">
        This hub has no camera {id}. <a href={href({ view: "wall" })}>All cameras</a>
      </p>
    );
  }
  const look = cameraLook(camera.state);
  return (
    <article class="camera" data-camera={id} data-state={camera.state}>
      <header class="camera-head">
        <a class="button button-icon" href={href({ view: "wall" })} aria-label="Back to all cameras">
          <Icon name="back" />
        </a>
        <h1>{title(camera)}</h1>
        <Badge look={look} />
        <span class="since">for {duration(lasted(camera, now.value))}</span>
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
          <div class={`camera-picture tile-${look.tone}`}>
            <Picture camera={id} label={`Live picture of ${title(camera)}`} />
          </div>
          <Numbers camera={camera} />
          <Charts id={id} />
        </div>
        <div class="column">
          {detail !== null && <Tuning detail={detail} onChanged={askAgain} />}
          <Drops camera={camera} />
          {detail !== null && <Errors detail={detail} />}
          {detail !== null && <Settings detail={detail} />}
        </div>
      </div>
    </article>
  );
}

/** What the wall does not show, asked for anew whenever the camera has changed in a way that it tells of. */
function useDetail(id: string, camera: Camera | undefined): [CameraDetail | null, () => void] {
  const [detail, setDetail] = useState<CameraDetail | null>(null);
  const [turn, setTurn] = useState(0);
  const changed = camera === undefined ? "" : JSON.stringify([camera.state, camera.error, camera.run_time]);

  useEffect(() => {
    const leaving = new AbortController();
    cameraDetail(id, leaving.signal).then(setDetail, (error: Error) => {
      const gone = error instanceof Refusal && error.status === 404;
      if (!(leaving.signal.aborted || gone)) {
        tell(error.message, "bad");
      }
    });
    return () => leaving.abort();
  }, [id, changed, turn]);

  return [detail?.id === id ? detail : null, () => setTurn((before) => before + 1)];
}

/** Seconds in its state; those of the hub's clock and of this machine's may differ. */
function lasted(camera: Camera, until: number): number {
  return Math.max(1, (until - Date.parse(camera.since)) / 1000);
}

function Labels({ camera }: { readonly camera: Camera }) {
  const labels = Object.entries(camera.labels);
  return (
    <ul class="labels">
      {labels.map(([key, value]) => (
        <li key={key}>
          {key}: {value}
        </li>
      ))}
    </ul>
  );
}

function Actions({ camera }: { readonly camera: Camera }) {
  const { id } = camera;
  const name = title(camera);
  return (
    <div class="actions">
      {camera.paused ? (
        <OrderButton class="button button-main" order={() => order(id, "resume")} done={`${name} resumes.`}>
          <Icon name="play" /> Resume
        </OrderButton>
      ) : (
        <OrderButton order={() => order(id, "pause")} done={`${name} is paused.`}>
          <Icon name="pause" /> Pause
        </OrderButton>
      )}
      <OrderButton order={() => order(id, "restart")} done={`${name} is started anew.`}>
        <Icon name="loop" /> Restart
      </OrderButton>
      <OrderButton order={() => save(id)} done="The picture is saved.">
        Save picture
      </OrderButton>
      <RemoveCamera camera={camera} />
    </div>
  );
}

async function save(id: string): Promise<void> {
  const url = URL.createObjectURL(await snapshot(id));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${id} ${new Date().toISOString().replaceAll(":", "-").slice(0, 19)}.jpg`;
  link.click();
  URL.revokeObjectURL(url);
}

function Numbers({ camera }: { readonly camera: Camera }) {
  const { age_s, round_trip_s, worker } = camera;
  const at = (instant: string | null) => (instant === null ? "none" : ago(instant, now.value));
  return (
    <dl class="figures">
      <Figure label="in">{rate(camera.rate_in)}/s</Figure>
      <Figure label="out" hint={`${camera.fps ?? "?"} a second asked for`}>
        {rate(camera.rate_out)}/s
      </Figure>
      <Figure label="age, p50 and p99">
        {age_s === null ? "–" : `${duration(age_s.p50)}, ${duration(age_s.p99)}`}
      </Figure>
      <Figure label="until its result">{round_trip_s === null ? "–" : duration(round_trip_s.p50)}</Figure>
      <Figure label="last picture">{at(camera.last_picture_at)}</Figure>
      <Figure label="last result">{at(camera.last_result_at)}</Figure>
      <Figure label="seen">{tallied(camera.seen) || "nothing"}</Figure>
      <Figure label="sent">
        {count(camera.sent)}, {bytes(camera.sent_bytes)}
      </Figure>
      <Figure label="results">{count(camera.results_received)}</Figure>
      <Figure label="results waiting">{count(camera.spool)}</Figure>
      <Figure label="worker">{worker.pid === null ? "none" : `pid ${worker.pid}`}</Figure>
      <Figure label="CPU" hint="cores">
        {worker.cpu === null ? "–" : worker.cpu.toFixed(2)}
      </Figure>
      <Figure label="memory">{worker.memory_bytes === null ? "–" : bytes(worker.memory_bytes)}</Figure>
    </dl>
  );
}

function Drops({ camera }: { readonly camera: Camera }) {
  const groups: readonly (readonly [string, Counts])[] = [
    ["Dropped pictures", camera.dropped],
    ["Without an answer", camera.unanswered],
    ["Lost results", camera.results_lost],
    ["Camera connected anew", camera.reconnects.camera],
    ["Service connected anew", camera.reconnects.uplink],
    ["Worker restarts", camera.restarts],
  ];
  return (
    <section class="panel">
      <h2>Counted</h2>
      <table>
        <tbody>
          {groups.map(([what, counts]) => (
            <tr key={what}>
              <th scope="row">{what}</th>
              <td class="number">{count(total(counts))}</td>
              <td class="wide">{reasons(counts)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function reasons(counts: Counts): string {
  return Object.entries(counts)
    .filter(([, many]) => many > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, many]) => `${spoken(reason)} ${count(many)}`)
    .join(", ");
}

function Errors({ detail }: { readonly detail: CameraDetail }) {
  return (
    <section class="panel">
      <h2>Last errors</h2>
      {detail.errors.length === 0 ? (
        <p>None since the hub started.</p>
      ) : (
        <ol class="errors" reversed>
          {detail.errors.toReversed().map(({ at, error }) => (
            <li key={at + error}>
              <time dateTime={at} title={new Date(at).toLocaleString("en-GB")}>
                {clock(at)}
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
  const changed = new Set(Object.keys(detail.run_time.set));
  return (
    <details class="panel">
      <summary>
        <h2>Settings in force</h2>
      </summary>
      <dl class="settings">
        {flat(detail.settings).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              {value}
              {changed.has(name.replace("nvision.", "")) && <em> changed while running</em>}
            </dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
