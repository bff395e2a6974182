// The two charts, drawn by uPlot from the columns of /api/series. Nothing of the table is known here.

import { duration, rate, short } from "./format.js";

// 30 minutes of one point a second, as the server keeps them.
const POINTS_MAX = 1800;
const HEIGHT = 200;

const NAMES = ["time", "messages_per_second", "realtime_ms", "average_ms"];

export class Charts {
  constructor(rateBox, timeBox) {
    this.columns = NAMES.map(() => []);
    this.boxes = [rateBox, timeBox];
    this.build();
    // The canvas has no CSS: it is drawn again in the other colours.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    new ResizeObserver(() => this.resize()).observe(rateBox);
  }

  build() {
    this.plots?.forEach((plot) => plot.destroy());
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const grid = { stroke: colour("--line"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const axis = { stroke: colour("--faint"), grid, ticks: { show: false }, font };
    const line = (label, name, value, fill) => ({
      label, stroke: colour(name), width: 2, fill: fill && colour(fill), spanGaps: false,
      points: { show: false }, value: (_, at) => (at == null ? "–" : value(at)),
    });
    const options = (box, ticks, series) => ({
      width: Math.max(box.clientWidth, 100), height: HEIGHT, series: [{ label: "time", value: (_, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString([], { hour12: false })) }, ...series],
      axes: [
        { ...axis, space: 80, size: 32, values: (_, splits) => splits.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false })) },
        { ...axis, size: 58, values: (_, splits) => splits.map(ticks) },
      ],
      // A flat line at 0 is drawn on the ground, not in the middle of nothing.
      scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.1 : 1] } },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      legend: { live: true },
    });
    const [rateBox, timeBox] = this.boxes;
    const { uPlot } = window;
    this.plots = [
      new uPlot(options(rateBox, short, [line("messages/s", "--accent", rate, "--accent-soft")]), this.data(0), rateBox),
      new uPlot(options(timeBox, duration, [line("real time", "--accent", duration), line("mean since start", "--second", duration)]), this.data(1), timeBox),
    ];
    this.resize();
  }

  data(plot) {
    const [time, perSecond, realtime, average] = this.columns;
    return plot === 0 ? [time, perSecond] : [time, realtime, average];
  }

  resize() {
    this.plots.forEach((plot, index) => {
      const box = this.boxes[index];
      const legend = plot.root.querySelector(".u-legend")?.offsetHeight ?? 0;
      plot.setSize({ width: Math.max(box.clientWidth, 100), height: Math.max(box.clientHeight - legend, 100) });
    });
  }

  // The newest time shown, in ms; 0 before the first point.
  get last() {
    return Math.round((this.columns[0].at(-1) ?? 0) * 1000);
  }

  // Appends columns as /api/series gives them; points already there are left out.
  append(series) {
    const known = this.last;
    series.time.forEach((time, row) => {
      if (time <= known) return;
      this.columns[0].push(time / 1000);
      NAMES.slice(1).forEach((name, index) => this.columns[index + 1].push(series[name][row]));
    });
    this.columns.forEach((column) => column.splice(0, column.length - POINTS_MAX));
    this.plots.forEach((plot, index) => plot.setData(this.data(index)));
  }
}
