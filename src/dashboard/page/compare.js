// Up to five videos as lines of one chart, over the same time. Which ones stands in the address.

import { Chart } from "./charts.js";
import { CHOSEN_MAX, chosenIn, chosenText, toggled } from "./chosen.js";
import { now } from "./clock.js";
import { byId, count, element, many, setAttribute, setText, short } from "./format.js";
import { fetchJson } from "./net.js";
import { newName, showName, sought } from "./titles.js";
import { dense, sumOf } from "./video.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
// How often the lines are asked for again.
const ASK_MS = 10_000;

// What the address may say, how long that is, and how long a point is.
export const SPANS = {
  "6h": { length: 6 * HOUR_MS, scale: "minute", step: 60_000, words: "the last 6 hours" },
  "48h": { length: 2 * DAY_MS, scale: "hour", step: HOUR_MS, words: "the last 2 days" },
  "30d": { length: 30 * DAY_MS, scale: "hour", step: HOUR_MS, words: "the last 30 days" },
  "1y": { length: 365 * DAY_MS, scale: "day", step: DAY_MS, words: "the last year" },
};

const DASHES = [undefined, undefined, [6, 4], [2, 3], [12, 4]];

export class Compare {
  constructor(state) {
    Object.assign(this, { state, shown: false, known: new Map(), asked: 0 });
    const lines = DASHES.map((dash) => ({ label: "", format: count, dash }));
    this.chart = new Chart(byId("figure-compare"), { title: "Plays of the compared videos", lines, ticks: short, whole: true });
    this.chart.name([]);
    for (const button of byId("compare-span").children) button.addEventListener("click", () => state.set({ span: button.dataset.value }, true));
    byId("compare-add").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add(sought(byId("compare-id").value.trim()));
    });
    setInterval(() => this.refresh(), ASK_MS);
  }

  show(values) {
    this.shown = true;
    for (const button of byId("compare-span").children) setAttribute(button, "aria-pressed", button.dataset.value === values.span);
    this.refresh();
  }

  hide() {
    this.shown = false;
  }

  stats() {}

  async add(id) {
    const { videos } = this.state.values;
    const ids = chosenIn(videos);
    if (!id || ids.includes(id)) return;
    if (ids.length >= CHOSEN_MAX) return this.fail(`At most ${CHOSEN_MAX} videos can be compared. Remove one first.`);
    try {
      await fetchJson(`api/counts/${encodeURIComponent(id)}`);
    } catch (error) {
      return this.fail(error.message);
    }
    this.fail("");
    byId("compare-id").value = "";
    this.state.set({ videos: toggled(videos, id) });
  }

  fail(text) {
    setText(byId("compare-error"), text);
    byId("compare-error").hidden = !text;
  }

  async refresh() {
    if (!this.shown || document.hidden) return;
    const { videos, span } = this.state.values;
    const ids = chosenIn(videos);
    const asked = ++this.asked;
    const { length, scale, step } = SPANS[span];
    const to = Math.ceil(now() / step) * step;
    const from = to - length;
    const one = async (id) => {
      const path = `api/counts/${encodeURIComponent(id)}`;
      try {
        const [video, series] = await Promise.all([fetchJson(path), fetchJson(`${path}/series?scale=${scale}&from=${from}&to=${to}`)]);
        return { video, series };
      } catch (error) {
        // The others are shown all the same.
        return { video: { video_id: id }, error };
      }
    };
    const found = await Promise.all(ids.map(one));
    // Something else was chosen meanwhile.
    if (asked !== this.asked || !this.shown) return;
    this.draw(found, SPANS[span], from, to);
  }

  draw(found, { words, scale }, from, to) {
    const lines = found.map(({ series }) => (series ? dense(series, from, to) : null));
    const times = lines.find(Boolean)?.[0] ?? [];
    const none = times.map(() => null);
    this.chart.title = `Plays by ${scale} in ${words}`;
    setText(byId("compare-caption"), `Plays by ${scale}`);
    this.chart.set([times, ...DASHES.map((_, index) => lines[index]?.[1] ?? none)], { span: [from / 1000, to / 1000] });
    this.chart.name(found.map(({ video }) => video.title || video.video_id));
    byId("figure-compare").hidden = found.length === 0;
    byId("compare-empty").hidden = found.length > 0;
    const list = byId("compare-rows");
    while (list.children.length > found.length) list.lastElementChild.remove();
    found.forEach(({ video, series, error }, index) => {
      const row = list.children[index] ?? list.appendChild(this.newRow(index));
      const [, name, told, remove] = row.children;
      const id = video.video_id;
      showName(name.childNodes, video, this.state.link({ view: "video", video: id }));
      setText(told, series ? `${many(sumOf(series, from, to), "play")} in ${words}, ${count(video.plays)} in all` : error.message);
      setAttribute(remove, "aria-label", `Remove ${video.title || id}`);
      remove.dataset.video = id;
    });
  }

  newRow(index) {
    const row = element("li");
    const name = element("span", "compared-name");
    name.append(...newName());
    const remove = element("button", "", "Remove");
    remove.type = "button";
    remove.addEventListener("click", () => {
      this.fail("");
      const ids = chosenIn(this.state.values.videos).filter((id) => id !== remove.dataset.video);
      this.state.set({ videos: chosenText(ids) });
    });
    row.append(element("span", `swatch swatch-${index}`), name, element("span", "note"), remove);
    return row;
  }
}
