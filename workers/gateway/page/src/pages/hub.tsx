// The hub itself: its processes, and how it gets on with its file.

import { hub } from "../hub/fleet";
import type { Process } from "../hub/model";
import { total } from "../hub/model";
import { processLook } from "../hub/states";
import { now } from "../look/clock";
import { href } from "../look/routes";
import { bytes, count, duration, spoken } from "../look/wording";
import { Badge } from "../parts/badge";
import { Figure } from "../parts/figure";

export function HubPage() {
  const known = hub.value;
  if (known === null) {
    return <p class="empty">Asking the hub …</p>;
  }
  const uptime = known.started_at === null ? null : (now.value - Date.parse(known.started_at)) / 1000;
  const sum = (of: (process: Process) => number | null) =>
    known.processes.reduce((all, one) => all + (of(one) ?? 0), 0);
  return (
    <>
      <h1>{known.site}</h1>
      {known.reload_error !== null && (
        <div class="alert" role="alert">
          <b>The changed cameras.yaml was refused; what ran before runs on.</b>
          <pre>{known.reload_error}</pre>
        </div>
      )}
      <dl class="figures">
        <Figure label="version">{known.version}</Figure>
        <Figure label="up for">{uptime === null ? "–" : duration(Math.max(0, uptime))}</Figure>
        <Figure label="CPU" hint="cores, of all processes">
          {sum(({ cpu }) => cpu).toFixed(2)}
        </Figure>
        <Figure label="memory">{bytes(sum(({ memory_bytes }) => memory_bytes))}</Figure>
        <Figure label="results">{known.redis ?? "–"}</Figure>
        {Object.entries(known.config_reloads).map(([outcome, times]) => (
          <Figure key={outcome} label={`cameras.yaml ${spoken(outcome)}`}>
            {count(times)}
          </Figure>
        ))}
      </dl>
      <div class="scroll">
        <table>
          <caption class="unseen">Processes</caption>
          <thead>
            <tr>
              <th scope="col">Process</th>
              <th scope="col">State</th>
              <th scope="col">Pid</th>
              <th scope="col">CPU</th>
              <th scope="col">Memory</th>
              <th scope="col">Restarts</th>
              <th scope="col">Error</th>
            </tr>
          </thead>
          <tbody>
            {known.processes.map((process) => (
              <Row key={process.name} process={process} />
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Row({ process }: { readonly process: Process }) {
  const [kind, id] = process.name.split(":");
  const why = Object.entries(process.restarts).map(([reason, times]) => `${spoken(reason)}: ${times}`);
  return (
    <tr>
      <th scope="row">
        {kind === "camera" && id !== undefined ? (
          <a href={href({ view: "camera", id })}>{process.name}</a>
        ) : (
          process.name
        )}
      </th>
      <td>
        <Badge look={processLook(process.phase)} />
      </td>
      <td class="number">{process.pid ?? "–"}</td>
      <td class="number">{process.cpu === null ? "–" : process.cpu.toFixed(2)}</td>
      <td class="number">{process.memory_bytes === null ? "–" : bytes(process.memory_bytes)}</td>
      <td class="number" title={why.join(", ")}>
        {count(total(process.restarts))}
      </td>
      <td class="wide">{process.error}</td>
    </tr>
  );
}
