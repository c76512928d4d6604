// Charts of a camera's last 30 minutes, with the history from the hub and, after it, live values.

import { useEffect, useState } from "preact/hooks";
import { getHistory } from "../../api/client";
import { Chart, LINE_STYLES, type Line } from "../../components/chart";
import { connection, getCamera } from "../../state/fleet";
import { formatDuration, formatRate, humanize } from "../../ui/format";
import { notify } from "../../ui/notifications";
import { type Column, HistorySeries, largestColumns } from "./history_series";

const SAMPLE_INTERVAL_MS = 2000;

interface ChartSpec {
  readonly title: string;
  readonly lines: readonly (Line & { readonly column: Column })[];
  readonly format: (value: number) => string;
}

const CHARTS: readonly ChartSpec[] = [
  {
    title: "Frames per second",
    lines: [
      { label: "out", style: "first", column: "rate_out" },
      { label: "in", style: "second", column: "rate_in" },
    ],
    format: formatRate,
  },
  {
    title: "Frame age when sent",
    lines: [
      { label: "p50", style: "first", column: "age_p50_s" },
      { label: "p99", style: "second", column: "age_p99_s" },
    ],
    format: formatDuration,
  },
  {
    title: "Time to result",
    lines: [{ label: "p50", style: "first", column: "round_trip_p50_s" }],
    format: formatDuration,
  },
];

export function Charts({ id }: { readonly id: string }) {
  const [series, setSeries] = useState<HistorySeries | null>(null);
  const [, redraw] = useState(0);
  const isConnected = connection.value.phase === "open";

  useEffect(() => {
    if (!isConnected) {
      return; // after a reconnect, the history is reloaded
    }
    const aborter = new AbortController();
    getHistory(id, aborter.signal).then(
      (history) => setSeries(new HistorySeries(history)),
      (error: Error) => aborter.signal.aborted || notify(error.message, "bad"),
    );
    return () => aborter.abort();
  }, [id, isConnected]);

  useEffect(() => {
    if (series === null || !isConnected) {
      return;
    }
    const timer = setInterval(() => {
      const camera = getCamera(id);
      if (camera !== undefined) {
        series.append(camera, Date.now() / 1000);
        redraw((count) => count + 1);
      }
    }, SAMPLE_INTERVAL_MS);
    return () => clearInterval(timer);
  }, [id, series, isConnected]);

  return (
    <section class="charts" aria-label="Last 30 minutes">
      {series !== null &&
        CHARTS.map(({ title, lines, format }) => (
          <Chart
            key={title}
            title={title}
            lines={lines}
            format={format}
            group={id}
            data={[series.times, ...lines.map(({ column }) => series.values[column])]}
          />
        ))}
      {series !== null && <DropsChart series={series} group={id} />}
    </section>
  );
}

/** Dropped frames by reason; a single line at zero if no frame was dropped. */
function DropsChart({ series, group }: { readonly series: HistorySeries; readonly group: string }) {
  const columns = largestColumns(series.dropped, LINE_STYLES.length);
  const reasons = columns.size > 0 ? [...columns] : [["any reason", series.values.dropped_per_s] as const];
  const lines = reasons.map(([reason], index) => ({ label: humanize(reason), style: LINE_STYLES[index] ?? "first" }));
  return (
    <Chart
      key={lines.map(({ label }) => label).join()}
      title="Dropped frames per second, by reason"
      lines={lines}
      format={formatRate}
      group={group}
      data={[series.times, ...reasons.map(([, points]) => points)]}
    />
  );
}
