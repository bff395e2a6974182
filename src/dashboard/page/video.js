// The page of one video: its total and place, its plays by minute, hour and day, and its week.

import { changes, fetchChanged } from "./changed.js";
import { Bars } from "./bars.js";
import { Chart } from "./charts.js";
import { now } from "./clock.js";
import { against, byId, count, element, isToday, many, moment, rate, setAttribute, setFigure, setText, share, short, time } from "./format.js";
import { fetchJson, Followed } from "./net.js";
import { addressOf } from "./titles.js";
import { dayStart, wall, zone } from "./zones.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
// How often the charts are asked for again while plays come in.
const SERIES_REFRESH_MS = 10_000;
const LEVELS = 5;
// How long it is said that something was copied.
const SAID_MS = 4000;

// What can be looked at: plays by `scale`, over as many of `unit` as the address says. The server sends what it keeps.
const SPANS = {
  minutes: { scale: "minute", step: MINUTE_MS, unit: HOUR_MS, name: "hour" },
  hours: { scale: "hour", step: HOUR_MS, unit: DAY_MS, name: "day" },
};
// Days are those of the zone, and the bars' own.
const CHOICES = [...Object.keys(SPANS), "days"];

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

// All buckets from `from` to `to` as columns; the server sends those with plays only.
export const dense = ({ step_ms: step, time, plays }, from, to) => {
  const first = Math.floor(from / step) * step;
  const buckets = Math.max(1, Math.ceil((to - first) / step));
  const times = Array.from({ length: buckets }, (_, index) => (first + index * step) / 1000);
  const values = new Array(buckets).fill(0);
  time.forEach((at, row) => {
    const index = (at - first) / step;
    if (index >= 0 && index < buckets) values[Math.floor(index)] = plays[row];
  });
  return [times, values];
};

export const sumOf = ({ time, plays }, from, to) => plays.reduce((sum, value, row) => (time[row] >= from && time[row] < to ? sum + value : sum), 0);

export const lasts = (number, name) => (number === 1 ? name : many(number, name));

// On a page without TLS there is no clipboard to write to, but a selection can be copied.
const copyText = async (node) => {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return document.execCommand("copy");
  }
};

export class Video {
  constructor(state) {
    Object.assign(this, { state, shown: false, video: "", seriesLoaded: 0, answer: null, whole: false, totals: null });
    this.followed = new Followed({ onVideo: (video) => this.take(video), onError: (error) => this.showError(error) });
    const lines = [{ label: "plays", format: count }];
    this.charts = Object.fromEntries(Object.entries(SPANS).map(([name, { scale }]) => (
      [name, new Chart(byId(`figure-${name}`), { title: `Plays by ${scale}`, ticks: short, lines, bars: true })]
    )));
    this.days = new Bars(byId("figure-days"));
    this.buttons = [...document.querySelectorAll("[data-span] button")];
    for (const button of this.buttons) {
      button.addEventListener("click", () => state.set({ [button.parentElement.dataset.span]: button.dataset.value }, true));
    }
    byId("video-copy").addEventListener("click", () => this.copy());
    this.heat = newHeatMap();
  }

  show(values, before) {
    const fresh = values.video !== this.video;
    const entered = !this.shown;
    this.shown = true;
    for (const button of this.buttons) setAttribute(button, "aria-pressed", values[button.parentElement.dataset.span] === button.dataset.value);
    setAttribute(byId("video-back"), "href", this.state.link({ view: "videos", video: "" }));
    setAttribute(byId("video-counter"), "href", this.state.link({ view: "counter" }));
    if (fresh) this.begin(values.video);
    if (fresh || entered || [...CHOICES, "zone"].some((name) => values[name] !== before[name])) this.refresh();
  }

  hide() {
    this.shown = false;
    this.followed.follow("");
  }

  refresh() {
    if (!this.shown) return;
    this.whole = true;
    this.followed.follow(this.video);
  }

  begin(video) {
    this.video = video;
    this.answer = null;
    this.changesOf = "";
    setText(byId("video-id"), video);
    this.showName({ video_id: video });
    this.showChanges([]);
    // Another video's numbers must not stand under this one's name.
    for (const id of ["video-plays", "video-rank", "video-last"]) setFigure(byId(id), "–");
    setText(byId("video-share"), "");
    setText(byId("video-rank-more"), "by plays");
    for (const name of Object.keys(SPANS)) {
      this.charts[name].set([[], []]);
      this.tell(name, "");
    }
    this.days.clear();
    this.say("Copy id", "");
    this.showHeat([[], []], "these days", 0);
    for (const link of document.querySelectorAll("#video-exports a")) {
      link.href = `api/export/series.${link.dataset.kind}?video=${encodeURIComponent(video)}&scale=${link.dataset.scale}`;
    }
  }

  async copy() {
    const done = await copyText(byId("video-id"));
    if (done) this.say("Copied", "The id is copied.");
    else this.say("Press Ctrl+C", "The browser does not let the page copy. The id is selected.");
    clearTimeout(this.said);
    this.said = setTimeout(() => this.say("Copy id", ""), SAID_MS);
  }

  // On the button for the eye, beside it for a screen reader.
  say(button, text) {
    setText(byId("video-copy"), button);
    setText(byId("video-said"), text);
  }

  tell(name, text) {
    setText(byId(`figure-${name}`).querySelector(".told"), text);
  }

  stats(stats) {
    this.totals = stats;
    if (!this.shown) return;
    // Its share of all plays changes with theirs.
    if (this.answer) this.showTotals(this.answer);
    this.followed.stats(stats);
  }

  async take(answer) {
    byId("video-error").hidden = true;
    byId("video-known").hidden = false;
    const moved = answer.plays !== this.answer?.plays;
    this.answer = answer;
    this.showTotals(answer);
    this.showName(answer);
    this.loadChanges(answer);
    if (!this.whole && (!moved || performance.now() - this.seriesLoaded < SERIES_REFRESH_MS)) return;
    this.whole = false;
    await this.loadSeries(this.video);
  }

  // The title where there is one, the id below it, and the way to the video.
  showName(video) {
    const title = video.title ?? "";
    setText(byId("video-title"), title);
    byId("video-title").hidden = !title;
    const address = addressOf(video);
    byId("video-link").hidden = !address;
    if (address) setAttribute(byId("video-link"), "href", address);
    else byId("video-link").removeAttribute("href");
  }

  // Why it is hidden or deleted stands in the list of all that are so.
  async loadChanges({ video_id: id, visibility, correction }) {
    const known = JSON.stringify([id, visibility, correction]);
    if (known === this.changesOf) return;
    this.changesOf = known;
    const { video } = this;
    const isChanged = correction || (visibility ?? "shown") !== "shown";
    let found = [];
    try {
      found = isChanged ? (await fetchChanged()).filter((one) => one.video_id === id).flatMap(changes) : [];
    } catch {
      // Asked for again with the next count.
      this.changesOf = "";
    }
    if (video === this.video) this.showChanges(found);
  }

  showChanges(texts) {
    const box = byId("video-changes");
    box.hidden = texts.length === 0;
    box.replaceChildren(...texts.map((text) => element("p", "", text)));
  }

  showError(error) {
    // Without plays there is nothing to draw; with the first one there is.
    if (error.status === 404) byId("video-known").hidden = true;
    setText(byId("video-error"), error.message);
    byId("video-error").hidden = false;
  }

  showTotals({ plays, rank, last_played_at: last }) {
    setFigure(byId("video-plays"), count(plays));
    const all = this.totals?.total_plays;
    setText(byId("video-share"), all > 0 ? `${share(plays / all)} of all plays` : "in all");
    setFigure(byId("video-rank"), count(rank));
    const videos = this.totals?.total_videos;
    setText(byId("video-rank-more"), videos ? `of ${many(videos, "video")}, by plays` : "by plays");
    setFigure(byId("video-last"), moment(last));
    const day = typeof last === "number" && !isToday(last);
    setText(byId("video-last-more"), day ? `${time(last)}, ${zone()}` : zone());
  }

  async loadSeries(video) {
    this.seriesLoaded = performance.now();
    await Promise.all([...Object.keys(SPANS).map((name) => this.loadSpan(name, video)), this.loadDays(video)]);
  }

  async loadDays(video) {
    const value = this.state.values.days;
    const path = `api/counts/${encodeURIComponent(video)}`;
    const to = (Math.floor(now() / MINUTE_MS) + 1) * MINUTE_MS;
    let from = dayStart(to - 1, value === "all" ? -29 : 1 - Number(value));
    // Of all days a month at least, so that one day is no wall.
    if (value === "all") from = Math.min(from, (await fetchJson(`${path}/series?scale=day&from=0`)).time[0] ?? from);
    if (video !== this.video || value !== this.state.values.days) return;
    const span = value === "all" ? "all of them" : `the last ${value} days`;
    const unit = value === "all" ? undefined : "day";
    await this.days.load({ path: `${path}/plays`, from, to, unit, words: [`in ${span}`, value === "all" ? "" : `the ${value} days before up to this time`, span] });
  }

  async loadSpan(name, video) {
    const { scale, step, unit, name: word } = SPANS[name];
    const value = this.state.values[name];
    const number = Number(value);
    // The end of a whole bucket: the one that is being filled is shown too.
    const end = Math.ceil(now() / step) * step;
    const length = number * unit;
    // As much again, to compare with, and one bucket more since the one being filled is not compared.
    const first = Math.max(0, end - 2 * length - step);
    const series = await fetchJson(`api/counts/${encodeURIComponent(video)}/series?scale=${scale}&from=${first}&to=${end}`);
    if (video !== this.video || value !== this.state.values[name]) return;
    const from = end - length;
    const columns = dense(series, from, end);
    const chart = this.charts[name];
    const span = `the last ${lasts(number, word)}`;
    chart.title = `Plays by ${scale}, ${span}`;
    chart.set(columns, { span: [columns[0][0], end / 1000] });
    if (name === "hours") this.showHeat(columns, span, series.kept_from);
    const sum = count(sumOf(series, from, end));
    const [over, middle, old] = [end - step, end - step - length, end - step - 2 * length];
    const before = old >= series.kept_from ? sumOf(series, old, middle) : undefined;
    this.tell(name, `${sum} in ${span}${against(sumOf(series, middle, over), before, `the ${lasts(number, word)} before`, series.kept_from)}`);
  }

  // The mean of each hour of the week, of those that are over and were recorded.
  showHeat([times, plays], span, knownFrom) {
    const means = weekMeans(times, plays, knownFrom, now());
    let most = { mean: 0 };
    means.forEach((hours, day) => hours.forEach((mean, hour) => {
      if (mean > most.mean) most = { mean, day, hour };
    }));
    means.forEach((hours, day) => hours.forEach((mean, hour) => {
      const cell = this.heat[day][hour];
      const level = mean > 0 ? Math.max(1, Math.ceil((mean / most.mean) * LEVELS)) : 0;
      const told = mean === null ? "not recorded" : `${rate(mean)} ${mean === 1 ? "play" : "plays"} on average`;
      setAttribute(cell, "data-level", level);
      setText(cell.firstChild, mean === null ? "–" : rate(mean));
      setAttribute(cell, "title", `${DAYS[day]} ${hour}:00 to ${hour + 1}:00: ${told}`);
    }));
    setText(byId("heat-text"), most.mean === 0
      ? `No plays in ${span}.`
      : `Most plays: ${DAYS[most.day]}s from ${most.hour}:00 to ${most.hour + 1}:00, ${rate(most.mean)} on average in ${span}.`);
  }
}

// Plays of each hour of the week, Monday first, as the mean of those of `times` (in s) that are over at `at` and end behind
// `knownFrom`; of the one that is not over, if it is the first of its kind; null: there is none.
export const weekMeans = (times, plays, knownFrom, at) => {
  const sums = DAYS.map(() => Array.from({ length: 24 }, () => [0, 0]));
  times.forEach((time, row) => {
    const ms = time * 1000;
    if (ms + HOUR_MS <= knownFrom) return;
    const clock = new Date(wall(ms));
    const sum = sums[(clock.getUTCDay() + 6) % 7][clock.getUTCHours()];
    if (ms + HOUR_MS > at && sum[1] > 0) return;
    sum[0] += plays[row];
    sum[1] += 1;
  });
  return sums.map((hours) => hours.map(([sum, number]) => (number > 0 ? sum / number : null)));
};

const newHeatMap = () => {
  const head = byId("heat-head");
  for (let hour = 0; hour < 24; hour += 1) {
    const cell = element("th", hour % 6 === 0 ? "" : hour % 3 === 0 ? "third" : "minor");
    cell.scope = "col";
    cell.append(element("span", "", String(hour)));
    head.append(cell);
  }
  return DAYS.map((day) => {
    const row = element("tr");
    const name = element("th");
    name.scope = "row";
    name.append(element("span", "", day.slice(0, 3)), element("span", "visually-hidden", day.slice(3)));
    row.append(name);
    const cells = Array.from({ length: 24 }, () => {
      const cell = element("td");
      cell.append(element("span", "visually-hidden", "0"));
      return cell;
    });
    row.append(...cells);
    byId("heat-rows").append(row);
    return cells;
  });
};
