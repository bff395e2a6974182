// The overview: totals, charts over the chosen range and the videos most played in it.

import { Asked } from "./asked.js";
import { Bars } from "./bars.js";
import { Chart } from "./charts.js";
import { now } from "./clock.js";
import { age, byId, change, count, duration, element, many, rate, setAttribute, setFigure, setText, share, short, svg, time } from "./format.js";
import { ledgerLine, ledgerText, ledgerTrouble } from "./ledgers.js";
import { bounds } from "./ranges.js";
import { newName, showName } from "./titles.js";
import { dayStart, fromWall, wall } from "./zones.js";

const MINUTE_MS = 60_000;
// How far back the live points go.
const LIVE_MS = 30 * MINUTE_MS;
// The most live points that wait for an answer: of 10 minutes, longer than any answer is waited for.
const WAITING_MAX = 600;
// A hole in the points of more than one and a half seconds is filled from /api/series.
const HOLE_MS = 1500;
// How often a stored range and the top list are asked for again; the server itself keeps an answer some seconds.
const RANGE_REFRESH_MS = 30_000;
const TOP_REFRESH_MS = 10_000;
const BARS_REFRESH_MS = 10_000;
// A processor reports once a second.
const SILENT_MS = 4000;

const SPARK = { width: 96, height: 22 };
const NAMES = ["messages_per_second", "realtime_ms", "average_ms", "p50_ms", "p99_ms", "queue_depth"];
// What stands behind a range's total, what the time before is called, and the range itself.
const WORDS = {
  "30m": ["plays in the last 30 minutes", "the 30 minutes before", "the last 30 minutes"],
  today: ["plays today", "yesterday up to this time", "today and yesterday"],
  "7d": ["plays in 7 days with today", "the 7 days before up to this time", "7 days"],
  "30d": ["plays in 30 days with today", "the 30 days before up to this time", "30 days"],
  custom: ["plays in this range", "as long a time before", "the range"],
};

// A number and its unit stay on one line.
export const unbroken = (text) => text.replaceAll(" ", "\u00a0");

const FIGURES = [
  ["Received", (told) => count(told.received)],
  ["Counted", (told) => count(told.counted)],
  ["Duplicates", (told) => count(told.duplicates)],
  ["Rejected", (told) => count(told.rejected)],
  ["Rate", (told) => `${rate(told.per_second)}/s`],
  ["Consumption p50 / p99 / max", (told) => [told.since_start?.p50, told.since_start?.p99, told.since_start?.max].map(duration).map(unbroken).join(" / ")],
];

// A time as the inputs of the browser take it: what clocks in the zone show, to the minute.
export const toLocal = (ms) => new Date(wall(ms)).toISOString().slice(0, 16);
export const toAddress = (text) => `${new Date(fromWall(Date.parse(`${text}Z`))).toISOString().slice(0, 16)}Z`;

export class Overview {
  constructor(state) {
    this.state = state;
    this.live = [[], ...NAMES.map(() => [])];
    // Points that came while older ones were asked for.
    this.waiting = [];
    this.secondsFrom = Infinity;
    this.shown = false;
    this.series = new Asked();
    this.top = new Asked();
    this.bars = new Bars(byId("figure-plays"));
    this.barsLoaded = 0;
    this.rangeLoaded = 0;
    this.topLoaded = 0;
    const times = [["real time"], ["average"], ["p50", [8, 4], true], ["p99", [2, 3], true]].map(([label, dash, hidden]) => ({ label, dash, hidden, format: duration }));
    this.charts = [
      new Chart(byId("figure-rate"), { title: "Plays per second", ticks: short, lines: [{ label: "plays/s", format: rate }] }),
      new Chart(byId("figure-time"), { title: "Consumption time, from enqueued to counted", lines: times, durations: true }),
      new Chart(byId("figure-depth"), { title: "Queue depth, in messages", ticks: short, lines: [{ label: "messages waiting", format: count }], whole: true }),
    ];
    this.buttons = [...document.querySelectorAll("#range button[data-range]")];
    for (const button of this.buttons) button.addEventListener("click", () => this.choose(button.dataset.range));
    byId("custom").addEventListener("submit", (event) => {
      event.preventDefault();
      this.chooseCustom();
    });
    byId("percentiles").addEventListener("click", () => state.set({ percentiles: state.values.percentiles ? "" : "1" }, true));
    byId("top-limit").addEventListener("change", (event) => state.set({ top: event.target.value }));
  }

  choose(range) {
    if (range !== "custom") return this.state.set({ range, from: "", to: "" });
    const open = byId("custom").hidden;
    this.openCustom(open || this.state.values.range === "custom");
    if (byId("custom").hidden) return;
    // The inputs start from what is on show.
    const [from, to] = bounds(this.state.values);
    byId("custom-from").value = toLocal(from);
    byId("custom-to").value = toLocal(Math.min(to, now()));
    byId("custom-from").focus();
  }

  openCustom(open) {
    byId("custom").hidden = !open;
    setAttribute(byId("custom-button"), "aria-expanded", open);
  }

  chooseCustom() {
    const [from, to] = ["custom-from", "custom-to"].map((id) => byId(id).value);
    const good = from && to && from < to;
    byId("custom-error").hidden = Boolean(good);
    setText(byId("custom-error"), good ? "" : "The start must be before the end.");
    if (good) this.state.set({ range: "custom", from: toAddress(from), to: toAddress(to) });
  }

  show(values, before) {
    const changed = !this.shown || ["range", "from", "to", "zone"].some((name) => values[name] !== before[name]);
    this.shown = true;
    this.buttons.forEach((button) => setAttribute(button, "aria-pressed", button.dataset.range === values.range));
    this.openCustom(values.range === "custom");
    if (values.range === "custom") {
      byId("custom-from").value = toLocal(Date.parse(values.from));
      byId("custom-to").value = toLocal(Date.parse(values.to));
    }
    setAttribute(byId("percentiles"), "aria-pressed", values.percentiles === "1");
    [2, 3].forEach((line) => this.charts[1].showLine(line, values.percentiles === "1"));
    byId("top-limit").value = values.top;
    if (changed) this.loadRange();
    if (changed) this.loadBars();
    if (changed || values.top !== before.top) this.loadTop();
  }

  hide() {
    this.shown = false;
  }

  // The tab is looked at again: what was missed is asked for.
  refresh() {
    if (!this.shown) return;
    this.loadRange();
    this.loadBars();
    this.loadTop();
  }

  stats(stats, point) {
    this.showStats(stats);
    if (!this.shown) return;
    this.now = stats.time;
    this.showTopAge();
    const now = performance.now();
    if (this.state.values.range === "30m") {
      this.showPoint(point);
    } else if (now - this.rangeLoaded > RANGE_REFRESH_MS) {
      this.loadRange();
    }
    if (now - this.barsLoaded > BARS_REFRESH_MS) this.loadBars();
    if (now - this.topLoaded > TOP_REFRESH_MS) this.loadTop();
  }

  async loadRange() {
    const { values } = this.state;
    const stored = values.range !== "30m";
    const [from, to] = bounds(values);
    this.rangeLoaded = performance.now();
    try {
      const path = stored ? `api/series?from=${from}&to=${to}` : `api/series?since=${this.last}`;
      const series = await this.series.get([values.range, values.from, values.to].join(), path);
      if (!series) return;
      this.rangeLoaded = performance.now();
      byId("range-error").hidden = true;
      if (stored) {
        this.showStored(series, [from / 1000, to / 1000]);
      } else {
        this.append(series);
      }
    } catch (error) {
      setText(byId("range-error"), `The charts are not up to date: ${error.message}`);
      byId("range-error").hidden = false;
    }
  }

  async loadBars() {
    const { values } = this.state;
    const [from, to] = bounds(values);
    this.barsLoaded = performance.now();
    try {
      // Of today all hours are there, those to come without a bar.
      const shown = values.range === "today" ? dayStart(from, 1) : to;
      await this.bars.load({ path: "api/plays", from, to, shown, words: WORDS[values.range] });
      byId("bars-error").hidden = true;
    } catch (error) {
      setText(byId("bars-error"), `The plays of the range are not up to date: ${error.message}`);
      byId("bars-error").hidden = false;
    }
    this.barsLoaded = performance.now();
  }

  showStored(series, span) {
    const times = series.time.map((at) => at / 1000);
    const seconds = series.step_ms / 1000;
    const [perSecond, ...rest] = NAMES.map((name) => series[name] ?? times.map(() => null));
    // The newest step is not over: it holds the minutes that are. The oldest of all holds those since the first.
    const known = Math.floor(now() / MINUTE_MS) * MINUTE_MS;
    const covers = (at) => Math.max(MINUTE_MS, Math.min(at + series.step_ms, known) - Math.max(at, series.recorded_from ?? at)) / 1000;
    // Counted plays are exact where the rate is a mean of reports.
    const plays = series.plays?.map((value, row) => (value == null ? perSecond[row] : value / covers(series.time[row]))) ?? perSecond;
    this.draw([times, plays, ...rest], { span, step: seconds });
  }

  draw([times, perSecond, realtime, average, p50, p99, depth], options) {
    this.charts[0].set([times, perSecond], options);
    this.charts[1].set([times, realtime, average, p50, p99], options);
    this.charts[2].set([times, depth], options);
  }

  // The newest live point, in ms; 0 before the first.
  get last() {
    return Math.round((this.live[0].at(-1) ?? 0) * 1000);
  }

  showPoint(point) {
    if (!point || point.time <= this.last) return;
    if (point.time - this.last <= HOLE_MS) return this.append({ time: [] }, [point]);
    // While the hole is being filled every event brings another point beyond it.
    if (point.time !== this.waiting.at(-1)?.time) this.waiting.push(point);
    if (this.waiting.length > WAITING_MAX) this.waiting.shift();
    this.loadRange();
  }

  // Appends columns as /api/series gives them, then points that follow without a hole; those already there are left out.
  append(series, points = this.waiting.splice(0)) {
    const push = (at, values) => [at / 1000, ...values].forEach((value, index) => this.live[index].push(value ?? null));
    const { last } = this;
    series.time.forEach((at, row) => at > last && push(at, NAMES.map((name) => series[name]?.[row])));
    this.secondsFrom = series.seconds_from ?? this.secondsFrom;
    for (const point of points) {
      if (point.time > this.last && point.time - this.last <= HOLE_MS) push(point.time, NAMES.map((name) => point[name]));
    }
    const old = this.live[0].findIndex((at) => at * 1000 > this.last - LIVE_MS);
    this.live.forEach((column) => column.splice(0, Math.max(0, old)));
    // Before the dashboard's start there is a point a minute.
    this.draw(this.live, { step: (at) => (at * 1000 < this.secondsFrom ? 60 : 2) });
  }

  async loadTop() {
    const { values } = this.state;
    const [from, to] = bounds(values);
    this.topLoaded = performance.now();
    const query = `from=${from}&to=${to}`;
    setAttribute(byId("top-csv"), "href", `api/export/top.csv?${query}`);
    setAttribute(byId("top-json"), "href", `api/export/top.json?${query}`);
    try {
      const question = [values.range, values.from, values.to, values.top].join();
      const answer = await this.top.get(question, `api/top?${query}&limit=${values.top}`);
      if (!answer) return;
      this.topLoaded = performance.now();
      byId("top-error").hidden = true;
      this.showTop(answer);
    } catch (error) {
      setText(byId("top-error"), `The list is not up to date: ${error.message}`);
      byId("top-error").hidden = false;
    }
  }

  showTop(answer) {
    setText(byId("top-summary"), `${many(answer.total, "play")} of ${many(answer.videos, "video")}`);
    this.topAsOf = answer.as_of;
    this.showTopAge();
    const body = byId("top-rows");
    const most = answer.top[0]?.plays;
    answer.top.forEach((video, index) => showTopRow(body.rows[index] ?? body.appendChild(newTopRow(index)), video, most, this.state));
    while (body.rows.length > answer.top.length) body.lastElementChild.remove();
    byId("top-table").hidden = answer.top.length === 0;
    byId("top-empty").hidden = answer.top.length > 0;
  }

  // Both times are the dashboard's: the clock of the browser may be wrong.
  showTopAge() {
    const known = typeof this.topAsOf === "number";
    const old = known && this.now > this.topAsOf ? ` (${age(this.now - this.topAsOf)} ago)` : "";
    setText(byId("top-age"), known ? `; as of ${time(this.topAsOf)}${old}` : "");
  }

  showStats(stats) {
    setFigure(byId("total-plays"), count(stats.counted_plays));
    setText(byId("total-more"), publishedText(stats));
    setFigure(byId("total-videos"), count(stats.total_videos));
    setFigure(byId("rate"), rate(stats.messages_per_second));
    const times = stats.consumption;
    setFigure(byId("consumption"), duration(times.realtime_ms));
    setText(byId("consumption-more"), timesText(times));
    const queue = stats.queue;
    setFigure(byId("depth"), count(queue?.depth));
    const { above, on } = stats.depth_alert ?? {};
    const marks = [on && `⚠ more than ${count(above)}`, stats.queue_paused?.length > 0 && "paused"];
    const depth = stats.queue_error ?? (queue ? `${count(queue.in_flight)} in flight, ${count(queue.deferred)} deferred` : "not known");
    setText(byId("depth-more"), [...marks, depth].filter(Boolean).join("; "));
    setAttribute(byId("depth-tile"), "data-alert", Boolean(on));
    showProcessors(stats.processors);
    showRun(stats.run);
  }
}

// In whole seconds: it is told again every second.
const nextText = (ms) => (ms > 0 ? `next in ${unbroken(duration(Math.ceil(ms / 1000) * 1000))}` : "next now");

// What stands below the counted plays: how many of them are published, and when the others follow.
export const publishedText = ({ counted_plays: counted, total_plays: published, processors, publication }) => {
  const known = counted > published ? `${unbroken(`${count(published)} published`)}` : "all published";
  if (!publication) return `${known}; no processor ${processors.length > 0 ? "reports now" : "has reported"}`;
  const { from_plays: from, every_ms: least, every_ms_most: most, next_ms: next } = publication;
  const which = from > 1 ? `videos over ${many(from, "play")}` : "videos";
  const every = least < most ? `${duration(least)} to ${duration(most)}` : duration(least);
  return `${known}; ${which} update every ${unbroken(every)}, ${nextText(next)}`;
};

// What stands below the consumption time of now.
export const timesText = ({ realtime_ms: now, average_ms: average, p99_ms: p99 }) => [
  typeof now === "number" ? "now" : "nothing counted now",
  typeof average === "number" && `average ${unbroken(duration(average))}`,
  typeof p99 === "number" && `p99 ${unbroken(duration(p99))}`,
].filter(Boolean).join("; ");

// How the simulation has ended that the page belongs to, and its report, which stays.
const showRun = (run) => {
  const box = byId("run");
  box.hidden = !run;
  if (!run) return;
  setAttribute(box, "data-fault", Boolean(run.fault));
  const counted = `Run finished: ${count(run.counted)} of ${count(run.wanted)}`;
  setText(byId("run-title"), run.fault ? `${counted}, NOT verified: ${run.fault}` : `${counted}, verified`);
  const list = byId("run-report");
  if (list.children.length === run.report.length * 2) return;
  list.replaceChildren(...run.report.flatMap(({ name, value }) => [element("dt", "", name), element("dd", "", value)]));
};

// Whether a processor reports, and if not, how it has ended.
export const heardText = ({ ended, ledger, heard_ms_ago: ago }) => {
  if (ended) return ended.how === "finished" ? `finished at ${time(ended.at)}` : `stopped in order at ${time(ended.at)}`;
  // Of a dead one another may tell the counts: that is no sign of life.
  if (ledger?.state && ledger.state !== "alive") return "dead";
  return ago < SILENT_MS ? "reporting" : `silent for ${duration(ago)}`;
};

const newTopRow = (index) => {
  const row = element("tr");
  row.setAttribute("role", "row");
  const cell = (className, ...children) => {
    const made = element("td", className);
    made.setAttribute("role", "cell");
    made.append(...children);
    return made;
  };
  const bar = svg("svg", { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" });
  bar.append(svg("rect", { class: "bar-ground", width: 100, height: 4, rx: 1 }), svg("rect", { class: "bar-part", width: 0, height: 4, rx: 1 }));
  const spark = svg("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, width: SPARK.width, height: SPARK.height, role: "img" });
  spark.append(svg("polygon", { class: "spark-area" }), svg("polyline", { class: "spark-line", fill: "none" }));
  row.append(
    cell("place number", String(index + 1)), cell("video", ...newName()), cell("number plays"),
    cell("number part", element("span", "percent"), bar), cell("number change"), cell("trend", spark),
  );
  return row;
};

// The bar is as long as the plays are to `most`; shares of a million videos would all be empty.
const showTopRow = (row, video, most, state) => {
  const [, id, plays, part, changed, trend] = row.cells;
  showName(id.childNodes, video, state.link({ view: "video", video: video.video_id }));
  setText(plays, count(video.plays));
  setText(part.firstChild, share(video.share));
  setAttribute(part.lastChild.lastChild, "width", ((video.plays / most) * 100).toFixed(2));
  setText(changed, change(video.plays, video.before));
  const direction = typeof video.before !== "number" || video.plays === video.before ? "same" : video.plays > video.before ? "up" : "down";
  if (changed.dataset.direction !== direction) changed.dataset.direction = direction;
  drawSpark(trend.firstChild, video.spark ?? []);
};

const drawSpark = (spark, values) => {
  const most = Math.max(1, ...values);
  const step = SPARK.width / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(SPARK.height - 2 - (value / most) * (SPARK.height - 4)).toFixed(1)}`).join(" ");
  setAttribute(spark.lastChild, "points", points);
  setAttribute(spark.firstChild, "points", points && `0,${SPARK.height} ${points} ${SPARK.width},${SPARK.height}`);
  setAttribute(spark, "aria-label", `between ${count(Math.min(...values, most))} and ${count(Math.max(0, ...values))} plays in each of ${values.length} parts of the range`);
};

const newProcessor = (id) => {
  const box = element("article", "processor");
  box.dataset.processor = id;
  const title = element("h3");
  title.append(element("code", "", id), element("span", "heard"));
  const pairs = element("dl", "pairs");
  FIGURES.forEach(([name]) => pairs.append(element("dt", "", name), element("dd")));
  pairs.append(element("dt", "", "Ledger"), element("dd", "ledger-name"));
  const ledger = element("p", "note ledger-line");
  const rejection = element("p", "rejection");
  rejection.hidden = true;
  const letters = element("p", "note letters-link");
  letters.append(Object.assign(element("a", "", "Look at the rejected messages"), { href: "./?view=letters" }));
  letters.firstElementChild.dataset.inside = "";
  box.append(title, pairs, ledger, rejection, letters);
  return box;
};

const showProcessors = (processors) => {
  const list = byId("processors");
  byId("no-processors").hidden = processors.length > 0;
  const known = new Map([...list.children].map((box) => [box.dataset.processor, box]));
  for (const one of processors) {
    const { processor, consumption, ledger } = one;
    const box = known.get(processor) ?? list.appendChild(newProcessor(processor));
    known.delete(processor);
    setText(box.querySelector(".heard"), heardText(one));
    const cells = box.querySelectorAll("dd");
    FIGURES.forEach(([, figure], index) => setText(cells[index], consumption ? figure(consumption) : "–"));
    setText(box.querySelector(".ledger-name"), ledgerText(ledger));
    const line = box.querySelector(".ledger-line");
    line.hidden = !ledgerLine(ledger);
    setText(line, ledgerLine(ledger));
    const rejection = box.querySelector(".rejection");
    const trouble = consumption?.failure
      ? `Counting has stopped: ${consumption.failure}`
      : ledgerTrouble(ledger) || consumption?.last_rejection && `Last rejected: ${consumption.last_rejection}`;
    rejection.hidden = !trouble;
    setText(rejection, trouble || "");
    box.querySelector(".letters-link").hidden = !(consumption?.rejected > 0);
  }
  known.forEach((box) => box.remove());
};

const configured = (value) => {
  if (typeof value === "number") return value.toLocaleString("en");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};

export const showConfiguration = (pairs) => {
  const list = byId("configuration");
  byId("no-configuration").hidden = Array.isArray(pairs) && pairs.length > 0;
  if (!Array.isArray(pairs)) return;
  list.replaceChildren(...pairs.flatMap(({ name, value }) => [
    element("dt", "", String(name)),
    element("dd", "", configured(value)),
  ]));
};
