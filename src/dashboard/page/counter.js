// One number for a screen on the wall: all plays, or those of one video. It is no live region: a screen reader
// reads it when asked to, not four times a second.

import { byId, count, many, rate, setText, share } from "./format.js";
import { Followed } from "./net.js";
import { showName } from "./titles.js";

export class Counter {
  constructor(state) {
    Object.assign(this, { state, shown: false, video: "", totals: null, answer: null });
    this.followed = new Followed({ onVideo: (video) => this.take(video), onError: (error) => this.showError(error) });
    const full = byId("counter-full");
    full.hidden = !document.fullscreenEnabled;
    full.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
    document.addEventListener("fullscreenchange", () => setText(full, document.fullscreenElement ? "Leave full screen" : "Full screen"));
  }

  show({ video }) {
    const fresh = !this.shown || video !== this.video;
    Object.assign(this, { shown: true, video });
    byId("counter-video").hidden = !video;
    byId("counter-error").hidden = true;
    if (!fresh) return;
    this.answer = null;
    this.showName({ video_id: video });
    this.showFigures("–", []);
    this.followed.follow(video);
    if (this.totals) this.stats(this.totals);
  }

  hide() {
    this.shown = false;
    this.followed.follow("");
    if (document.fullscreenElement) document.exitFullscreen();
  }

  refresh() {
    if (this.shown) this.followed.follow(this.video);
  }

  stats(stats) {
    this.totals = stats;
    if (!this.shown) return;
    this.followed.stats(stats);
    if (this.answer) {
      this.showVideo();
    } else if (!this.video) {
      this.showFigures(count(stats.counted_plays), [[rate(stats.messages_per_second), "plays a second"], [count(stats.total_videos), "videos"]]);
    }
  }

  showName(video) {
    const nodes = [byId("counter-video-id"), byId("counter-video-below")];
    showName(nodes, video, this.state.link({ view: "video", video: this.video }));
  }

  take(answer) {
    this.answer = answer;
    this.showName(answer);
    byId("counter-error").hidden = true;
    this.showVideo();
  }

  showVideo() {
    const { plays, rank } = this.answer;
    const { total_plays: all, total_videos: videos } = this.totals ?? {};
    this.showFigures(count(plays), [
      [all > 0 ? share(plays / all) : "–", "of all plays"],
      [count(rank), videos ? `place, of ${many(videos, "video")}` : "place"],
    ]);
  }

  showError(error) {
    // It may have its first play any time.
    if (error.status === 404) return this.showFigures("0", [["–", "no plays yet"]]);
    setText(byId("counter-error"), error.message);
    byId("counter-error").hidden = false;
  }

  showFigures(figure, more) {
    const box = byId("counter-figure");
    // The digits are as large as the width takes; their size changes only when there is one more of them.
    if (setText(box, figure) && this.digits !== figure.length) {
      this.digits = figure.length;
      box.style.setProperty("--digits", Math.max(this.digits, 3));
    }
    [...byId("counter-more").children].forEach((item, index) => {
      const [value, unit] = more[index] ?? ["", ""];
      setText(item.firstElementChild, value);
      setText(item.lastElementChild, unit);
    });
  }
}
