// The videos whose plays have changed most against the time before the range.

import { byId, change, count, element, setText } from "./format.js";
import { fetchJson } from "./net.js";
import { bounds } from "./ranges.js";
import { newName, showName } from "./titles.js";

const ASK_MS = 15_000;
const MOST = 10;

// How many plays more or fewer: a sign, so that it is not told by colour alone.
export const moved = ({ plays, before }) => {
  const by = plays - before;
  return by > 0 ? `+${count(by)}` : by < 0 ? `−${count(-by)}` : "±0";
};

export class Movers {
  constructor(state) {
    Object.assign(this, { state, asking: false });
    setInterval(() => this.show(state.values), ASK_MS);
  }

  async show(values) {
    if (values.view !== "overview" || document.hidden || this.asking) return;
    this.asking = true;
    const asked = `${values.range} ${values.from} ${values.to}`;
    const [from, to] = bounds(values);
    try {
      this.draw(await fetchJson(`api/top?order=change&limit=${MOST}&from=${from}&to=${to}`));
    } catch (error) {
      setText(byId("movers-said"), error.message);
    }
    this.asking = false;
    const { range, from: first, to: last } = this.state.values;
    // Another range was chosen meanwhile.
    if (asked !== `${range} ${first} ${last}`) this.show(this.state.values);
  }

  draw({ top, total_before: before }) {
    const isKnown = typeof before === "number";
    setText(byId("movers-said"), !isKnown ? "Not known: the time before this range was not recorded, or is no longer kept."
      : top.length === 0 ? "No video has more or fewer plays than in the time before." : "");
    const list = byId("movers-rows");
    while (list.children.length > top.length) list.lastElementChild.remove();
    top.forEach((video, index) => {
      const row = list.children[index] ?? list.appendChild(newRow());
      const [name, by, told] = row.children;
      showName(name.childNodes, video, this.state.link({ view: "video", video: video.video_id }));
      setText(by, moved(video));
      by.dataset.direction = video.plays > video.before ? "up" : "down";
      setText(told, `${count(video.before)} to ${count(video.plays)}, ${change(video.plays, video.before)}`);
    });
  }
}

const newRow = () => {
  const row = element("li");
  const name = element("span", "compared-name");
  name.append(...newName());
  row.append(name, element("strong", "moved"), element("span", "note"));
  return row;
};
