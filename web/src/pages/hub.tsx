// Page of the hub: version, resources, configuration reloads and processes.

import { type Process, total } from "../api/types";
import { Badge } from "../components/badge";
import { Stat } from "../components/stat";
import { hub } from "../state/fleet";
import { processStatus } from "../state/status";
import { now } from "../ui/clock";
import { formatBytes, formatCount, formatDuration, formatReasons, humanize, UNKNOWN } from "../ui/format";
import { href } from "../ui/router";

const RELOAD_LABELS: Readonly<Record<string, string>> = { taken: "Reloads", refused: "Rejected reloads" };

export function HubPage() {
  const state = hub.value;
  if (state === null) {
    return <p class="empty">Connecting to the hub…</p>;
  }
  const uptime = state.started_at === null ? null : (now.value - Date.parse(state.started_at)) / 1000;
  const sum = (getValue: (process: Process) => number | null) =>
    state.processes.reduce((all, process) => all + (getValue(process) ?? 0), 0);
  return (
    <>
      <h1>{state.site}</h1>
      {state.reload_error !== null && (
        <div class="alert" role="alert">
          <b>The changed cameras.yaml is invalid. The previous configuration stays active.</b>
          <pre>{state.reload_error}</pre>
        </div>
      )}
      <dl class="stats">
        <Stat label="Version">{state.version}</Stat>
        <Stat label="Uptime">{uptime === null ? UNKNOWN : formatDuration(Math.max(0, uptime))}</Stat>
        <Stat label="CPU" hint="Cores used by all processes">
          {sum(({ cpu }) => cpu).toFixed(2)}
        </Stat>
        <Stat label="Memory">{formatBytes(sum(({ memory_bytes }) => memory_bytes))}</Stat>
        <Stat label="Redis">{state.redis ?? UNKNOWN}</Stat>
        {state.models !== null && (
          <>
            <Stat label="Object model" hint="What the local service detects objects with">
              {state.models.objects}
            </Stat>
            <Stat label="Face model" hint="What the local service detects faces with">
              {state.models.faces}
            </Stat>
          </>
        )}
        {Object.entries(state.config_reloads).map(([outcome, times]) => (
          <Stat key={outcome} label={RELOAD_LABELS[outcome] ?? `Reloads ${humanize(outcome)}`}>
            {formatCount(times)}
          </Stat>
        ))}
      </dl>
      <div class="table-scroll">
        <table>
          <caption class="visually-hidden">Processes</caption>
          <thead>
            <tr>
              <th scope="col">Process</th>
              <th scope="col">State</th>
              <th scope="col">PID</th>
              <th scope="col">CPU</th>
              <th scope="col">Memory</th>
              <th scope="col">Restarts</th>
              <th scope="col">Error</th>
            </tr>
          </thead>
          <tbody>
            {state.processes.map((process) => (
              <ProcessRow key={process.name} process={process} />
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function ProcessRow({ process }: { readonly process: Process }) {
  const { name, phase, pid, cpu, memory_bytes, restarts, error } = process;
  const [kind, id] = name.split(":");
  return (
    <tr>
      <th scope="row">
        {kind === "camera" && id !== undefined ? <a href={href({ view: "camera", id })}>{name}</a> : name}
      </th>
      <td>
        <Badge status={processStatus(phase)} />
      </td>
      <td class="number">{pid ?? UNKNOWN}</td>
      <td class="number">{cpu === null ? UNKNOWN : cpu.toFixed(2)}</td>
      <td class="number">{memory_bytes === null ? UNKNOWN : formatBytes(memory_bytes)}</td>
      <td class="number" title={formatReasons(restarts)}>
        {formatCount(total(restarts))}
      </td>
      <td class="details">{error}</td>
    </tr>
  );
}
