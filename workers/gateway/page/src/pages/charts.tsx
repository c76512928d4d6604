// A camera's last half an hour, from the hub's memory and then live.

import { useEffect, useState } from "preact/hooks";
import { history } from "../hub/api";
import { camera as cameraOf, connection } from "../hub/fleet";
import { tell } from "../look/announce";
import { duration, rate, spoken } from "../look/wording";
import { Chart, INKS, type Line } from "../parts/chart";
import { type Column, largest, Series } from "./series";

const EVERY_MS = 2000;

interface Kind {
  readonly title: string;
  readonly lines: readonly (Line & { readonly of: Column })[];
  readonly format: (value: number) => string;
}

const KINDS: readonly Kind[] = [
  {
    title: "Pictures a second",
    lines: [
      { label: "out", ink: "first", of: "rate_out" },
      { label: "in", ink: "second", of: "rate_in" },
    ],
    format: rate,
  },
  {
    title: "Age when sent",
    lines: [
      { label: "p50", ink: "first", of: "age_p50_s" },
      { label: "p99", ink: "second", of: "age_p99_s" },
    ],
    format: duration,
  },
  { title: "Until its result", lines: [{ label: "p50", ink: "first", of: "round_trip_p50_s" }], format: duration },
];

export function Charts({ id }: { readonly id: string }) {
  const [series, setSeries] = useState<Series | null>(null);
  const [, redraw] = useState(0);
  const open = connection.value.phase === "open";

  useEffect(() => {
    if (!open) {
      return; // what was missed is asked for once the hub is back
    }
    const leaving = new AbortController();
    history(id, leaving.signal).then(
      (known) => setSeries(new Series(known)),
      (error: Error) => leaving.signal.aborted || tell(error.message, "bad"),
    );
    return () => leaving.abort();
  }, [id, open]);

  useEffect(() => {
    if (series === null || !open) {
      return;
    }
    const timer = setInterval(() => {
      const camera = cameraOf(id);
      if (camera !== undefined) {
        series.append(camera, Date.now() / 1000);
        redraw((turn) => turn + 1);
      }
    }, EVERY_MS);
    return () => clearInterval(timer);
  }, [id, series, open]);

  return (
    <section class="charts" aria-label="The last half an hour">
      {series !== null &&
        KINDS.map(({ title, lines, format }) => (
          <Chart
            key={title}
            title={title}
            lines={lines}
            format={format}
            group={id}
            data={[series.times, ...lines.map(({ of }) => series.values[of])]}
          />
        ))}
      {series !== null && <Drops series={series} group={id} />}
    </section>
  );
}

/** By reason; where nothing was dropped, a line along the bottom. */
function Drops({ series, group }: { readonly series: Series; readonly group: string }) {
  const columns = largest(series.dropped, INKS.length);
  const reasons = columns.size > 0 ? [...columns] : [["any reason", series.values.dropped_per_s] as const];
  const lines = reasons.map(([reason], place) => ({ label: spoken(reason), ink: INKS[place] ?? "first" }));
  return (
    <Chart
      key={lines.map(({ label }) => label).join()}
      title="Dropped a second, by reason"
      lines={lines}
      format={rate}
      group={group}
      data={[series.times, ...reasons.map(([, points]) => points)]}
    />
  );
}
