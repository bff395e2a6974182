// The page of one video: its total and place, its plays by minute, hour and day, and its week.

import { Chart } from "./charts.js";
import { byId, count, dateTime, element, setAttribute, setText, share, short } from "./format.js";
import { fetchJson, Followed } from "./net.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
// How often the charts are asked for again while plays come in.
const SERIES_REFRESH_MS = 10_000;
const LEVELS = 5;

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

// All buckets from `from` to `to` as columns; the server sends those with plays only.
const dense = ({ step_ms: step, time, plays }, from, to) => {
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

export class Video {
  constructor(state) {
    Object.assign(this, { state, shown: false, video: "", seriesLoaded: 0, plays: null, whole: false, totals: null });
    this.followed = new Followed({ onVideo: (video) => this.take(video), onError: (error) => this.showError(error) });
    const lines = [{ label: "plays", format: count }];
    this.minutes = new Chart(byId("figure-minutes"), { title: "Plays by minute, the last 48 hours", ticks: short, lines, bars: true });
    this.hours = new Chart(byId("figure-hours"), { title: "Plays by hour", ticks: short, lines, bars: true });
    this.days = new Chart(byId("figure-days"), { title: "Plays by day", ticks: short, lines, bars: true, utc: true });
    byId("hours-days").addEventListener("change", (event) => state.set({ hours: event.target.value }, true));
    this.heat = newHeatMap();
  }

  show(values, before) {
    const fresh = values.video !== this.video;
    const entered = !this.shown;
    this.shown = true;
    byId("hours-days").value = values.hours;
    if (fresh) this.begin(values.video);
    if (fresh || entered || values.hours !== before.hours) this.refresh();
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
    this.plays = null;
    setText(byId("video-id"), video);
    // Another video's numbers must not stand under this one's name.
    for (const id of ["video-plays", "video-rank", "video-last"]) setText(byId(id), "–");
    setText(byId("video-share"), "");
    setText(byId("video-rank-more"), "by plays");
    for (const chart of [this.minutes, this.hours, this.days]) chart.set([[], []]);
    this.showHeat([[], []]);
    for (const link of document.querySelectorAll("#video-exports a")) {
      link.href = `/api/export/series.${link.dataset.kind}?video=${video}&scale=${link.dataset.scale}`;
    }
  }

  stats(stats) {
    this.totals = stats;
    if (this.shown) this.followed.stats(stats);
  }

  async take(answer) {
    byId("video-error").hidden = true;
    byId("video-known").hidden = false;
    const moved = answer.plays !== this.plays;
    this.plays = answer.plays;
    this.showTotals(answer);
    if (!this.whole && (!moved || performance.now() - this.seriesLoaded < SERIES_REFRESH_MS)) return;
    this.whole = false;
    await this.loadSeries(answer.video_id);
  }

  showError(error) {
    // Without plays there is nothing to draw; with the first one there is.
    if (error.status === 404) byId("video-known").hidden = true;
    setText(byId("video-error"), error.message);
    byId("video-error").hidden = false;
  }

  showTotals({ plays, rank, last_played_at: last }) {
    setText(byId("video-plays"), count(plays));
    const all = this.totals?.total_plays;
    setText(byId("video-share"), all > 0 ? `${share(plays / all)} of all plays` : "in all");
    setText(byId("video-rank"), count(rank));
    const videos = this.totals?.total_videos;
    setText(byId("video-rank-more"), videos ? `of ${count(videos)} videos, by plays` : "by plays");
    setText(byId("video-last"), typeof last === "number" ? dateTime(last) : "–");
  }

  async loadSeries(video) {
    this.seriesLoaded = performance.now();
    const hours = Number(this.state.values.hours);
    const now = Date.now();
    // Ends of whole buckets: the one that is being filled is shown too.
    const ends = { minute: Math.ceil(now / MINUTE_MS) * MINUTE_MS, hour: Math.ceil(now / HOUR_MS) * HOUR_MS, day: Math.ceil(now / DAY_MS) * DAY_MS };
    const ask = (scale, from) => fetchJson(`/api/counts/${video}/series?scale=${scale}&from=${Math.max(0, from)}&to=${ends[scale]}`);
    const from = { minute: ends.minute - 2 * DAY_MS, hour: ends.hour - hours * DAY_MS };
    const [byMinute, byHour, byDay] = await Promise.all([ask("minute", from.minute), ask("hour", from.hour), ask("day", 0)]);
    if (video !== this.video || hours !== Number(this.state.values.hours)) return;
    const draw = (chart, columns, end) => chart.set(columns, { span: [columns[0][0], end / 1000] });
    draw(this.minutes, dense(byMinute, from.minute, ends.minute), ends.minute);
    const columns = dense(byHour, from.hour, ends.hour);
    draw(this.hours, columns, ends.hour);
    this.showHeat(columns);
    // A month at least, so that one day is no wall.
    const first = Math.min(byDay.time[0] ?? Infinity, ends.day - 30 * DAY_MS);
    draw(this.days, dense(byDay, first, ends.day), ends.day);
  }

  showHeat([times, plays]) {
    const sums = DAYS.map(() => new Array(24).fill(0));
    times.forEach((at, row) => {
      const date = new Date(at * 1000);
      sums[(date.getDay() + 6) % 7][date.getHours()] += plays[row];
    });
    let most = { plays: 0 };
    sums.forEach((hours, day) => hours.forEach((sum, hour) => {
      if (sum > most.plays) most = { plays: sum, day, hour };
    }));
    sums.forEach((hours, day) => hours.forEach((sum, hour) => {
      const cell = this.heat[day][hour];
      const level = sum === 0 ? 0 : Math.max(1, Math.ceil((sum / most.plays) * LEVELS));
      setAttribute(cell, "data-level", level);
      setText(cell.firstChild, count(sum));
      setAttribute(cell, "title", `${DAYS[day]} ${hour}:00 to ${hour + 1}:00: ${count(sum)} plays`);
    }));
    const total = plays.reduce((sum, value) => sum + value, 0);
    setText(byId("heat-text"), total === 0
      ? "No plays in these days."
      : `Most plays: ${DAYS[most.day]}s from ${most.hour}:00 to ${most.hour + 1}:00, ${count(most.plays)} of ${count(total)}.`);
    setText(byId("heat-zone"), Intl.DateTimeFormat().resolvedOptions().timeZone ?? "your time zone");
  }
}

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
