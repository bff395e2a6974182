// Plays over a range as bars, by what suits it from minutes to months, with the time before as a dashed line.

import { Asked } from "./asked.js";
import { Chart } from "./charts.js";
import { against, count, setText, short } from "./format.js";
import { barsOf, summed } from "./ranges.js";

export class Bars {
  constructor(figure) {
    const lines = [
      { label: "plays", format: count, bars: true }, { label: "not over yet", format: count, bars: true, soft: true },
      { label: "before", format: count, dash: [6, 4], steps: true },
    ];
    this.told = figure.querySelector(".told");
    this.caption = figure.querySelector("figcaption");
    this.chart = new Chart(figure, { title: "Plays", ticks: short, lines, whole: true });
    this.asked = new Asked();
  }

  clear() {
    this.chart.set([[], [], [], []]);
    setText(this.told, "");
  }

  // Asks at `path`, and shows the plays from `from` to `to` with bars as far as `shown`. `words`: what stands behind the total,
  // what the time before is called ("": it is not compared), and the range itself. Nothing, if another range was asked for meanwhile.
  async load({ path, from, to, shown = to, unit, words: [where, before, range] }) {
    const bars = barsOf(from, shown, unit);
    bars.whole = bars.whole.map((ms) => Math.min(ms, to));
    const answer = await this.asked.get(`${path} ${range} ${bars.unit} ${bars.bars[0]}`, `${path}?edges=${bars.edges.join()}`);
    if (!answer) return;
    const found = summed(bars, answer);
    setText(this.caption, `Plays by ${bars.unit}`);
    this.chart.title = `Plays by ${bars.unit}, ${range}`;
    const times = bars.bars.map((ms) => ms / 1000);
    const column = (is) => [...found.plays.map((plays, row) => ((row === found.unfinished) === is ? plays : null)), null];
    // The last step needs an end.
    this.chart.set([times, column(false), column(true), [...found.before, found.before.at(-1)]], { span: [times[0], times.at(-1)], closed: true });
    const compared = before ? against(found.total, found.totalBefore ?? undefined, before, answer.known_from) : "";
    setText(this.told, `${count(found.total)} ${where}${compared}`);
  }
}
