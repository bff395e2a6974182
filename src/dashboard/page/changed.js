// The videos of which not all is shown as it was counted: hidden, deleted or corrected, and why.

import { byId, count, element, many, moment, setText } from "./format.js";
import { fetchJson } from "./net.js";
import { newName, showName } from "./titles.js";

// The most that are listed; the command `playcounts video list` tells all.
const LISTED_MAX = 200;

const sign = (plays) => `${plays < 0 ? "−" : "+"}${many(Math.abs(plays), "play")}`;

const because = (reason) => (reason ? `: ${reason}` : "");

// What is changed of a video, a sentence each.
export const changes = ({ visibility, reason, at, correction, counted }) => [
  visibility === "hidden" && `Hidden since ${moment(at)}${because(reason)}. Its plays stay in the totals.`,
  visibility === "deleted" && `Deleted since ${moment(at)}${because(reason)}. Its plays are in no total.`,
  correction && `Corrected by ${sign(correction.plays)} since ${moment(correction.at)}${because(correction.reason)}. Counted: ${count(counted)}.`,
].filter(Boolean);

export const fetchChanged = async () => (await fetchJson("api/videos/changed")).videos;

export class Changed {
  constructor(state) {
    this.state = state;
  }

  async load() {
    try {
      this.show(await fetchChanged());
    } catch {
      // The list of videos says what is wrong with the dashboard; what was known stays.
    }
  }

  show(videos) {
    byId("changed").hidden = videos.length === 0;
    setText(byId("changed-title"), `${many(videos.length, "video")} hidden, deleted or corrected`);
    const rows = videos.slice(0, LISTED_MAX).map((video) => {
      const row = element("li");
      const name = newName();
      showName(name, video, this.state.link({ view: "video", video: video.video_id }));
      row.append(...name, ...changes(video).map((text) => element("p", "note", text)));
      return row;
    });
    byId("changed-rows").replaceChildren(...rows);
    byId("changed-more").hidden = videos.length <= LISTED_MAX;
    setText(byId("changed-more"), `and ${count(videos.length - LISTED_MAX)} more: playcounts video list tells all`);
  }
}
