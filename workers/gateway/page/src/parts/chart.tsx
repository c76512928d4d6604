// One chart of a few lines over time, told apart by colour and by dashes. Colours are the style sheet's, read anew when the theme changes.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { theme } from "../look/theme";

export const INKS = ["first", "second", "third", "fourth"] as const;

export interface Line {
  readonly label: string;
  readonly ink: (typeof INKS)[number];
}

const DASHES: Readonly<Record<Line["ink"], number[]>> = { first: [], second: [], third: [6, 3], fourth: [2, 3] };

interface Props {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly data: uPlot.AlignedData;
  readonly format: (value: number) => string;
  /** Charts of the same group share their cursor. */
  readonly group: string;
}

const HEIGHT = 132;
const SPAN_S = 1800;
const FONT = "11px system-ui, sans-serif";

export function Chart({ title, lines, data, format, group }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const dark = theme.value;

  useEffect(() => {
    if (box.current === null) {
      return;
    }
    const place = box.current;
    const drawn = new uPlot(options(place, lines, format, group), data, place);
    chart.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize({ width: place.clientWidth, height: HEIGHT }));
    resized.observe(place);
    return () => {
      resized.disconnect();
      drawn.destroy();
      chart.current = null;
    };
  }, [dark, group]);

  useEffect(() => {
    chart.current?.setData(data);
  }, [data]);

  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={box} />
    </figure>
  );
}

function options(
  place: HTMLElement,
  lines: readonly Line[],
  format: (value: number) => string,
  group: string,
): uPlot.Options {
  const style = getComputedStyle(place);
  const inks = lines.map(({ ink }) => style.getPropertyValue(`--chart-${ink}`));
  const axis = {
    stroke: style.getPropertyValue("--chart-text"),
    grid: { stroke: style.getPropertyValue("--chart-grid"), width: 1 },
    ticks: { show: false },
    font: FONT,
  };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    cursor: { sync: { key: group }, y: false, drag: { setScale: false } },
    legend: { markers: { width: 0, fill: (_chart, line) => inks[line - 1] ?? "" } },
    scales: {
      x: { range: (_chart, _first, last) => [last - SPAN_S, last] },
      y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    axes: [
      { ...axis, values: "{HH}:{mm}", space: 60, size: 24 },
      { ...axis, values: (_chart, ticks) => ticks.map((tick) => format(tick)), size: 58, space: 28 },
    ],
    series: [
      { value: "{HH}:{mm}:{ss}" },
      ...lines.map(({ label, ink }, line) => ({
        label,
        stroke: inks[line] ?? "",
        width: ink === "first" ? 2 : 1,
        dash: DASHES[ink],
        points: { show: false },
        value: (_chart: uPlot, value: number | null) => (value === null ? "–" : format(value)),
      })),
    ],
  };
}
