// Figures in a frame of another site: all plays, or those of one video, with its days if the address wants them
// (`?view=video&video=ID`). It links nowhere and changes nothing.

import { Bars } from "./bars.js";
import { hear, now, timeAt } from "./clock.js";
import { byId, count, setText, time } from "./format.js";
import { Followed, Stream } from "./net.js";
import { shared } from "./share.js";
import { dayStart, useZone } from "./zones.js";

const MINUTE_MS = 60_000;
const DAYS = 30;
// How often the days are asked for again while plays come in.
const DAYS_REFRESH_MS = 10_000;

const given = new URLSearchParams(location.search);
const video = given.get("video") ?? "";
const withDays = given.get("view") === "video" && video !== "";

const showWrong = (text) => {
  setText(byId("wrong"), text);
  byId("wrong").hidden = !text;
};

const showPlays = (plays) => {
  setText(byId("plays"), count(plays));
  setText(byId("unit"), plays === 1 ? "play" : "plays");
};

let bars = null;
let daysAt = -Infinity;

const showDays = async () => {
  if (performance.now() - daysAt < DAYS_REFRESH_MS) return;
  daysAt = performance.now();
  byId("days").hidden = false;
  bars ??= new Bars(byId("days"));
  const to = (Math.floor(now() / MINUTE_MS) + 1) * MINUTE_MS;
  const range = `the last ${DAYS} days`;
  const path = `api/counts/${encodeURIComponent(video)}/plays`;
  await bars.load({ path, from: dayStart(to - 1, 1 - DAYS), to, unit: "day", words: [`in ${range}`, "", range] });
};

const followed = new Followed({
  async onVideo({ plays, title }) {
    showWrong("");
    setText(byId("name"), title || video);
    showPlays(plays);
    if (withDays) await showDays();
  },
  onError(error) {
    // It may have its first play any time.
    if (error.status === 404) showPlays(0);
    else showWrong(error.message);
  },
});

const onStats = ({ stats }) => {
  hear(stats.time);
  showWrong("");
  if (video) followed.stats(stats);
  else showPlays(stats.counted_plays);
};

const onBadge = (state, heard) => {
  if (state === "stale") showWrong(`These figures stand since ${time(timeAt(heard))}.`);
};

useZone("");
setText(byId("name"), video || "All videos");
followed.follow(video);
new Stream({ connect: shared, onStats, onBadge, onShown: () => followed.follow(video) });
