// Chart of up to four lines over time, with distinct colors and dashes. The colors come from the style sheet.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { UNKNOWN } from "../ui/format";
import { theme } from "../ui/theme";

export const LINE_STYLES = ["first", "second", "third", "fourth"] as const;

export interface Line {
  readonly label: string;
  readonly style: (typeof LINE_STYLES)[number];
}

const DASHES: Readonly<Record<Line["style"], number[]>> = { first: [], second: [], third: [6, 3], fourth: [2, 3] };

interface Props {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly data: uPlot.AlignedData;
  readonly format: (value: number) => string;
  /** Charts of the same group share a cursor. */
  readonly group: string;
}

const HEIGHT_PX = 132;
const SPAN_S = 1800;
const FONT = "11px system-ui, sans-serif";

export function Chart({ title, lines, data, format, group }: Props) {
  const containerRef = useRef<HTMLDivElement>(null);
  const chartRef = useRef<uPlot | null>(null);
  const currentTheme = theme.value; // a new theme needs a new chart, because a canvas does not follow the style sheet

  useEffect(() => {
    const container = containerRef.current;
    if (container === null) {
      return;
    }
    const chart = new uPlot(options(container, lines, format, group), data, container);
    chartRef.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: container.clientWidth, height: HEIGHT_PX }));
    observer.observe(container);
    return () => {
      observer.disconnect();
      chart.destroy();
      chartRef.current = null;
    };
  }, [currentTheme, group]);

  useEffect(() => {
    chartRef.current?.setData(data);
  }, [data]);

  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={containerRef} />
    </figure>
  );
}

function options(
  container: HTMLElement,
  lines: readonly Line[],
  format: (value: number) => string,
  group: string,
): uPlot.Options {
  const css = getComputedStyle(container);
  const colors = lines.map(({ style }) => css.getPropertyValue(`--chart-${style}`));
  const axis = {
    stroke: css.getPropertyValue("--chart-text"),
    grid: { stroke: css.getPropertyValue("--chart-grid"), width: 1 },
    ticks: { show: false },
    font: FONT,
  };
  return {
    width: container.clientWidth,
    height: HEIGHT_PX,
    cursor: { sync: { key: group }, y: false, drag: { setScale: false } },
    legend: { markers: { width: 0, fill: (_chart, line) => colors[line - 1] ?? "" } },
    scales: {
      x: { range: (_chart, _first, last) => [last - SPAN_S, last] },
      y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    axes: [
      { ...axis, values: "{HH}:{mm}", space: 60, size: 24 },
      { ...axis, values: (_chart, ticks) => distinct(ticks.map(format)), size: 58, space: 28 },
    ],
    series: [
      { value: "{HH}:{mm}:{ss}" },
      ...lines.map(({ label, style }, line) => ({
        label,
        stroke: colors[line] ?? "",
        width: style === "first" ? 2 : 1,
        dash: DASHES[style],
        points: { show: false },
        value: (_chart: uPlot, value: number | null) => (value === null ? UNKNOWN : format(value)),
      })),
    ],
  };
}

/** Replace a label that equals the previous label with an empty label. Rounding can make labels equal. */
function distinct(labels: readonly string[]): string[] {
  return labels.map((label, index) => (label === labels[index - 1] ? "" : label));
}
