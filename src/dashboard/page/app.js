// Puts the parts together: the address says which view is shown, the stream brings what changes.

import { Alarms } from "./alarm.js";
import { hear, timeAt } from "./clock.js";
import { Compare } from "./compare.js";
import { Counter } from "./counter.js";
import { Favourites } from "./favourites.js";
import { age, byId, setAttribute, setText, time } from "./format.js";
import { Keys } from "./keys.js";
import { Letters } from "./letters.js";
import { Marks } from "./marks.js";
import { Movers } from "./movers.js";
import { fetchJson, Stream } from "./net.js";
import { Notifier } from "./notify.js";
import { Overview, showConfiguration } from "./overview.js";
import { Place } from "./place.js";
import { shared } from "./share.js";
import { State } from "./state.js";
import { setTemplate } from "./titles.js";
import { Video } from "./video.js";
import { Videos } from "./videos.js";
import { ZoneChoice } from "./zonechoice.js";
import { useZone } from "./zones.js";

const TITLES = { overview: "", videos: "Videos", video: "Video", compare: "Compare videos", counter: "Counter", queue: "Queue and health", letters: "Dead letters", help: "Help" };
// Views that are reached from another one's.
const PARTS = { video: "videos", compare: "videos", letters: "queue" };
const nothing = { show() {}, hide() {}, refresh() {}, stats() {} };

// The queue's view is a module of its own; without it the rest of the page is whole.
const queue = {
  ...nothing,
  module: import("./queue.js").catch(() => null),
  async show() {
    const module = await this.module;
    if (!module) return;
    this.go ??= module.mount(byId("queue"), { fetchJson, writeToken, state });
    // The reader may have gone on meanwhile.
    if (state.values.view === "queue") this.go(state.values);
  },
};

// The token that calls which change something need; kept for this tab only, and only by who typed it.
const writeToken = {
  get: () => sessionStorage.getItem("write-token") ?? "",
  set: (token) => (token ? sessionStorage.setItem("write-token", token) : sessionStorage.removeItem("write-token")),
};

const show = (values, before) => {
  useZone(values.zone);
  zones.show();
  const turned = values.view !== before.view;
  for (const [name, view] of Object.entries(views)) {
    if (name !== values.view && !byId(`view-${name}`).hidden) {
      byId(`view-${name}`).hidden = true;
      view.hide();
    }
  }
  byId(`view-${values.view}`).hidden = false;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    const here = link.dataset.view === (PARTS[values.view] ?? values.view);
    if (here) setAttribute(link, "aria-current", "page");
    else link.removeAttribute("aria-current");
    setAttribute(link, "href", state.link({ view: link.dataset.view, video: "", topic: "", channel: "", nsqd: "", page: "1" }));
  }
  setAttribute(document.body, "data-view", values.view);
  const title = TITLES[values.view];
  alarms.setTitle(title ? `${title} – playcounts` : "playcounts");
  if (turned) {
    scrollTo(0, 0);
    // A screen reader hears where it has come to.
    byId(`view-${values.view}`).querySelector("h2").focus({ preventScroll: true });
  }
  views[values.view].show(values, before);
  favourites.show(values);
  movers.show(values);
  marks.show();
};

// Numbers are told to be old before they are called stale.
const AGED_MS = 2000;

// When the badge's dot moved last, by `performance.now()`.
let beatAt = 0;

// `heard`: when the newest event came, by `performance.now()`; `old`: how many ms ago.
const showBadge = (name, heard, old) => {
  const badge = byId("live");
  if (heard !== beatAt) {
    beatAt = heard;
    badge.toggleAttribute("data-beat");
  }
  if (badge.dataset.state !== name) badge.dataset.state = name;
  setText(byId("live-text"), name === "stale" ? `stale since ${time(timeAt(heard))}` : name);
  setText(byId("live-age"), heard > 0 && old >= AGED_MS ? age(old) : "");
  if (name === "stale") alarms.quiet(old);
  if (heard > 0) setAttribute(badge, "title", `The newest numbers came at ${time(timeAt(heard))}`);
};

const state = new State(show);
const favourites = new Favourites(state);
const movers = new Movers(state);
const marks = new Marks(state);
const alarms = new Alarms(state, new Notifier());
const zones = new ZoneChoice(state);
useZone(state.values.zone);
const views = { overview: new Overview(state), videos: new Videos(state, favourites), video: new Video(state), counter: new Counter(state), queue, letters: new Letters(state), compare: new Compare(state), help: nothing };

const onStats = ({ stats, point }) => {
  hear(stats.time);
  alarms.show(stats.alarms);
  Object.values(views).forEach((view) => view.stats(stats, point));
};

// Where videos are; without an answer there are no such links.
const settings = async () => {
  try {
    const { video_url: template, signed_in: signedIn } = await fetchJson("api/settings");
    setTemplate(template);
    byId("sign-out").hidden = !signedIn;
  } catch {
    // The views say what is wrong with the dashboard.
  }
};

const start = async () => {
  await settings();
  show(state.values, state.values);
  new Keys(state);
  new Place(views.videos);
  new Stream({ connect: shared, onStats, onBadge: showBadge, onShown: () => views[state.values.view].refresh() });
  queue.module.then((module) => {
    document.querySelector("nav a[data-view=queue]").hidden = !module;
    if (!module && state.values.view === "queue") state.set({ view: "overview" }, true);
  });
  try {
    const stats = await fetchJson("api/stats");
    showConfiguration(stats.configuration);
    onStats({ stats });
  } catch {
    // The first event brings the same numbers.
  }
};

start();
