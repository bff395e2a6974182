// A chart with a legend, drawn by uPlot. What its numbers are and where they come from is not known here.

import { dateTime, duration, element, setAttribute, setText, tick, time } from "./format.js";
import { browserZone, zone } from "./zones.js";

const DAY_MS = 86_400_000;

// Columns with a hole where two points are further apart than their step: no line is drawn over what is not known. `step` is
// a number, or tells that of the time that a point is at.
export const withHoles = (columns, step) => {
  if (!step) return columns;
  const stepAt = typeof step === "function" ? step : () => step;
  const [times, ...rest] = columns;
  const made = columns.map(() => []);
  times.forEach((at, row) => {
    const before = times[row - 1];
    if (row > 0 && at - before > stepAt(before) * 1.5) {
      made[0].push(before + stepAt(before));
      rest.forEach((_, index) => made[index + 1].push(null));
    }
    made[0].push(at);
    rest.forEach((column, index) => made[index + 1].push(column[row]));
  });
  return made;
};

// Rows whose neighbours are not known: a line cannot show them, so they are drawn as dots.
export const alone = (values) => values.flatMap((value, row) => (value != null && values[row - 1] == null && values[row + 1] == null ? [row] : []));

// Between ticks of what is counted in whole numbers; up to 5 * 10^15, beyond which no number here goes.
const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

// Ticks of durations, in ms, on a logarithmic scale: round ones of the unit that they are told in. Those that stay where
// there is little room come with `true`.
const SHORT = Array.from({ length: 7 }, (_, power) => [1, 2, 5].map((digit) => [digit * 10 ** (power - 3), digit === 1])).flat();
const LONG = [
  [10, true], [30], [60, true], [120], [300], [600, true], [1800], [3600, true], [3 * 3600], [6 * 3600], [12 * 3600],
  [86_400, true], [2 * 86_400], [7 * 86_400, true], [30 * 86_400, true],
].map(([seconds, stays = false]) => [seconds * 1000, stays]);
const DURATIONS = [...SHORT, ...LONG];
// What is less is drawn as that: a logarithm has no 0.
const LEAST_MS = DURATIONS[0][0];
// Pixels between two ticks.
const TICK_SPACE = 20;

// The ends of a logarithmic scale for durations from `low` to `high` ms: the ticks around them.
export const durationRange = (low, high) => {
  if (low == null || high == null) return [1, 10];
  const before = DURATIONS.findLastIndex(([ms]) => ms <= low);
  const behind = DURATIONS.findIndex(([ms]) => ms >= high);
  const first = Math.max(0, before);
  const last = behind < 0 ? DURATIONS.length - 1 : behind;
  return first < last ? [DURATIONS[first][0], DURATIONS[last][0]] : [DURATIONS[Math.max(0, first - 1)][0], DURATIONS[Math.min(DURATIONS.length - 1, last + 1)][0]];
};

// The ticks from `low` to `high`, at most so many.
export const durationTicks = (low, high, most) => {
  const inside = DURATIONS.filter(([ms]) => ms >= low && ms <= high);
  const kept = inside.length <= most ? inside : inside.filter(([, stays]) => stays);
  const step = Math.ceil(kept.length / Math.max(1, most));
  return kept.filter((_, index) => index % step === 0).map(([ms]) => ms);
};

// Seconds between ticks of time. None is below one: labels tell whole seconds, and would say the same twice.
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const TIMES = [
  ...[1, 2, 5, 10, 15, 30], ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), ...[1, 2, 3, 4, 6, 8, 12].map((n) => n * HOUR),
  ...[1, 2, 3, 5, 7, 14, 30, 60, 90, 180, 365, 730, 1825].map((n) => n * DAY),
];

// A colour of style.css as the canvas takes it: what it is in the theme on show.
const colour = (name) => {
  const probe = document.body.appendChild(element("span"));
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

// uPlot would label powers of ten only.
const logarithmicAxis = {
  splits: (plot, _, low, high) => durationTicks(low, high, Math.floor(plot.bbox.height / devicePixelRatio / TICK_SPACE)),
  filter: (_, splits) => splits,
};

// Moments that every chart marks on its time axis: { at in ms, text }.
let marks = [];

export const setMarks = (list) => {
  marks = list;
  document.dispatchEvent(new Event("marks"));
};

export class Chart {
  // `lines`: label, format, for all but the first dash, and whether it is `hidden` at first. `ticks` formats the numbers at
  // the side. `bars`, of all or of a line: each value is that of the time from its row to the next, not of a moment; `steps`:
  // the same as a line. `soft`: an outlined bar, of what is not over. `whole`: no half of it exists. `durations`: its numbers
  // are durations in ms, on a logarithmic scale.
  constructor(figure, { title, lines, ticks = duration, bars = lines.some((line) => line.bars), whole = bars, durations = false }) {
    Object.assign(this, { title, lines, ticks, bars, whole, durations, columns: [[], ...lines.map(() => [])], span: null, closed: false });
    this.hidden = lines.map(({ hidden = false }) => hidden);
    this.box = figure.querySelector(".chart");
    this.box.setAttribute("role", "img");
    this.legend = element("ul", "legend");
    this.when = element("li", "when");
    this.values = lines.map(({ label }, index) => {
      const item = element("li", "key");
      item.append(element("span", `swatch swatch-${lines[index].soft ? "soft" : index}`), element("span", "", label), element("output"));
      return item;
    });
    this.legend.append(this.when, ...this.values);
    this.legend.setAttribute("aria-label", `${title}: newest values`);
    figure.append(this.legend);
    this.build();
    // The canvas has no CSS: it is drawn again in the other colours.
    document.addEventListener("theme", () => this.build());
    document.addEventListener("marks", () => this.plot.redraw());
    new ResizeObserver(() => this.resize()).observe(this.box);
  }

  build() {
    this.plot?.destroy();
    const { uPlot } = window;
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const label = (at, step) => tick(at * 1000, step);
    this.plot = new uPlot({
      width: Math.max(this.box.clientWidth, 100),
      height: Math.max(this.box.clientHeight, 100),
      tzDate: (at) => (zone() === browserZone() ? new Date(at * 1000) : uPlot.tzDate(new Date(at * 1000), zone())),
      series: [{}, ...this.lines.map(({ dash, soft, steps, bars = this.bars && !steps }, index) => {
        const stroke = colour(`--series-${soft ? 0 : index}`);
        const fill = soft ? colour("--accent-soft") : stroke;
        if (bars) return { stroke, fill, width: soft ? 1.5 : 0, points: { show: false }, paths: uPlot.paths.bars({ align: 1, size: [0.8, 160] }) };
        return {
          show: !this.hidden[index], stroke, width: 2, dash, spanGaps: false, paths: steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: false, size: 5, width: 0, fill: stroke, filter: (_, row) => alone(this.columns[row]) },
          fill: index === 0 && this.lines.length === 1 ? colour("--accent-soft") : undefined,
        };
      })],
      axes: [
        { ...axis, incrs: TIMES, space: 84, gap: 9, size: 32, values: (_, splits, __, ___, step) => splits.map((at) => label(at, step)) },
        { ...axis, ...(this.whole && { incrs: WHOLE }), ...(this.durations && logarithmicAxis), size: 62, space: 40, values: (_, splits) => splits.map(this.ticks) },
      ],
      scales: {
        x: { time: true, range: (_, low, high) => this.span ?? [low, high] },
        // A flat line at 0 is drawn on the ground, not in the middle of nothing.
        y: this.durations ? { distr: 3, range: (_, low, high) => durationRange(low, high) } : { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.1 : 1] },
      },
      // Half of a date fits beside the last tick.
      padding: [null, 36, null, null],
      cursor: { drag: { x: false, y: false }, points: { show: !this.bars, size: 6 }, y: false },
      legend: { show: false },
      hooks: { setCursor: [() => this.showLegend()], draw: [(plot) => this.drawMarks(plot)] },
    }, this.drawn(), this.box);
    this.showLegend();
  }

  drawn() {
    if (!this.durations) return this.columns;
    const [times, ...lines] = this.columns;
    return [times, ...lines.map((values) => values.map((ms) => (ms == null ? ms : Math.max(ms, LEAST_MS))))];
  }

  // Shows or hides a line, and what the legend says of it.
  showLine(index, shown) {
    if (this.hidden[index] === !shown) return;
    this.hidden[index] = !shown;
    this.plot.setSeries(index + 1, { show: shown });
    this.showLegend();
    this.describe();
  }

  // A line from top to bottom at each moment in sight.
  drawMarks(plot) {
    const { ctx, bbox: { left, top, width, height } } = plot;
    ctx.save();
    ctx.fillStyle = colour("--warn");
    for (const { at } of marks) {
      const x = Math.round(plot.valToPos(at / 1000, "x", true));
      if (x < left || x > left + width) continue;
      for (let y = top; y < top + height; y += 8) ctx.fillRect(x, y, 2, Math.min(4, top + height - y));
    }
    ctx.restore();
  }

  resize() {
    // Hidden: there is no size to take; it comes with the box.
    if (this.box.clientWidth > 0) this.plot.setSize({ width: this.box.clientWidth, height: Math.max(this.box.clientHeight, 100) });
  }

  // Shows columns: times in seconds, then one for each line. `span`: [from, to] in seconds, or what the points cover. `closed`:
  // the last row is only the end of the one before.
  set(columns, { span = null, step = 0, closed = false } = {}) {
    this.columns = withHoles(columns, step);
    Object.assign(this, { span, closed });
    this.plot.setData(this.drawn());
    this.showLegend();
    this.describe();
  }

  // Names the lines, and hides those without a name. Behind `set`: uPlot takes the scale from the lines that it shows then.
  name(labels) {
    this.lines.forEach((line, index) => {
      line.label = labels[index] ?? "";
      setText(this.values[index].children[1], line.label);
      this.showLine(index, line.label !== "");
    });
    this.describe();
  }

  showLegend() {
    const [times] = this.columns;
    const rows = Math.max(0, times.length - (this.closed ? 1 : 0));
    let at = this.plot?.cursor.idx;
    // The nearest row may be that of the bar to the right.
    if (this.bars && at > 0 && this.plot.posToVal(this.plot.cursor.left, "x") < times[at]) at -= 1;
    if (at >= rows) at = rows - 1;
    const row = at ?? this.newest(rows);
    const when = rows > 0 ? times[row] * 1000 : null;
    setText(this.when, when === null ? "no points yet" : at == null ? `newest, ${this.moment(when)}` : this.moment(when));
    this.values.forEach((item, index) => {
      item.hidden = this.hidden[index];
      const value = this.columns[index + 1][row];
      setText(item.lastChild, value == null ? "–" : this.lines[index].format(value));
    });
  }

  // The last row that has a value of a bar: those behind it are to come.
  newest(rows) {
    const has = (_, row) => row < rows && this.columns.some((column, index) => index > 0 && !this.lines[index - 1].steps && column[row] != null);
    return this.closed ? Math.max(0, this.columns[0].findLastIndex(has)) : rows - 1;
  }

  moment(ms) {
    const times = this.columns[0];
    const covers = (this.span ? this.span[1] - this.span[0] : times.at(-1) - times[0]) * 1000;
    return covers < DAY_MS * 0.9 ? time(ms) : dateTime(ms);
  }

  // The chart in words, for those who do not see it.
  describe() {
    const told = this.lines.flatMap(({ label, format }, index) => {
      if (this.hidden[index]) return [];
      const known = this.columns[index + 1].filter((value) => value != null);
      if (known.length === 0) return `${label}: nothing`;
      const [low, high] = known.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
      return `${label}: from ${format(low)} to ${format(high)}`;
    });
    setAttribute(this.box, "aria-label", `${this.title}. ${told.filter(Boolean).join("; ")}`);
  }
}
