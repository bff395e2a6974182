// The dashboard as the page sees it: JSON by call, and one stream of events.

import { hearDate, timeAt } from "./clock.js";
import { time } from "./format.js";

// An event comes every second; after this long without one the numbers are called stale.
const STALE_MS = 4000;
// How long a refused stream rests. A browser itself tries again only after a cut, not after an answer like 503.
const AGAIN_MS = 3000;
// How often a page without numbers asks why.
const WHY_MS = 10_000;

// When the dashboard was last heard, by `performance.now()`; before the first time, since when it was not.
let heardAt = 0;

// That it cannot be reached now. A browser says no more than "Failed to fetch".
export const unreachable = () => {
  heardAt ||= performance.now();
  return `The dashboard cannot be reached since ${time(timeAt(heardAt))}. The page tries again by itself.`;
};

const reach = async (path, options) => {
  try {
    const response = await fetch(path, options);
    heardAt = performance.now();
    return response;
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    // Nothing that changes something is sent twice by itself.
    const write = "The dashboard did not answer, so it is not known whether this was done. Look before you try again.";
    throw new Error(options?.method ? write : unreachable(), { cause: error });
  }
};

// How often a read is asked for that the dashboard refuses for a moment: of long sums it finds one at a time.
const TRIES = 4;

// The answer of a call to `api/…`; an Error with the dashboard's own words and `status` where it refuses. The path is taken
// from where the page lies: a proxy may have put it under any path.
export const fetchJson = async (path, options, tries = TRIES) => {
  const response = await reach(path.replace(/^\//, ""), options);
  hearDate(response.headers?.get("date"));
  const pause = Number(response.headers?.get("retry-after"));
  if (response.status === 503 && pause > 0 && tries > 1 && !options?.method) {
    await new Promise((done) => setTimeout(done, pause * 1000));
    return fetchJson(path, options, tries - 1);
  }
  const answer = await response.json().catch((error) => {
    if (options?.signal?.aborted) throw error;
    return {};
  });
  if (response.ok) return answer;
  // Nobody is signed in any more: the form leads back here. Calls that change something have a token of their own.
  if (response.status === 401 && !options?.method) location.assign(`sign-in?to=${encodeURIComponent(location.search.slice(1))}`);
  throw Object.assign(new Error(answer.error ?? `the dashboard answered ${response.status}`), { status: response.status });
};

// How often a video is asked for again while counts change, and one that has no plays yet.
const VIDEO_MS = 1000;
const UNKNOWN_MS = 10_000;

// One video, asked for again when an event tells of changed counts. One call at a time; only the newest is told.
export class Followed {
  constructor({ onVideo, onError }) {
    Object.assign(this, { onVideo, onError, video: "", revision: -1, latest: -1, asked: 0, askedAt: 0, rest: 0, busy: false });
  }

  // Another video, or none.
  follow(video) {
    this.video = video;
    this.asked += 1;
    this.busy = false;
    if (video) this.ask();
  }

  stats({ revision }) {
    this.latest = revision;
    const due = this.video && revision !== this.revision && performance.now() - this.askedAt > this.rest;
    if (due && !this.busy) this.ask();
  }

  async ask() {
    const mine = ++this.asked;
    const { latest } = this;
    this.busy = true;
    this.askedAt = performance.now();
    try {
      const video = await fetchJson(`api/counts/${encodeURIComponent(this.video)}`);
      if (mine !== this.asked) return;
      Object.assign(this, { revision: latest, rest: VIDEO_MS });
      await this.onVideo(video);
    } catch (error) {
      if (mine !== this.asked) return;
      this.rest = error.status === 404 ? UNKNOWN_MS : VIDEO_MS;
      this.onError(error);
    } finally {
      if (mine === this.asked) this.busy = false;
    }
  }
}

// One EventSource, for this page or for several. `onEvent` gets the text of each event.
export class Events {
  constructor(onEvent) {
    Object.assign(this, { onEvent, source: null, tried: 0 });
  }

  open() {
    this.close();
    this.tried = performance.now();
    this.source = new EventSource("events");
    this.source.addEventListener("stats", ({ data }) => this.onEvent(data));
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  // Once a second: after a refusal it is opened again.
  check() {
    const refused = this.source?.readyState === EventSource.CLOSED;
    if (refused && performance.now() - this.tried > AGAIN_MS) this.open();
  }
}

// What the page hears, through what `connect` makes: closed while nobody looks at the tab, and opened again when somebody does.
export class Stream {
  constructor({ connect, onStats, onShown, onBadge }) {
    Object.assign(this, { onStats, onShown, onBadge, heard: 0, opened: 0, whyAt: 0, isOpen: false });
    this.events = connect((text) => this.hear(text));
    const follow = () => {
      if (document.hidden) return this.close();
      if (this.isOpen) return;
      this.open();
      if (this.heard > 0) onShown();
    };
    document.addEventListener("visibilitychange", follow);
    // A page in the back-forward cache must not hold a connection.
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", follow);
    setInterval(() => this.check(), 1000);
    if (!document.hidden) this.open();
  }

  open() {
    this.isOpen = true;
    this.opened = performance.now();
    this.events.open();
  }

  close() {
    this.isOpen = false;
    this.events.close();
  }

  hear(text) {
    const isBack = this.state === "stale";
    this.heard = heardAt = performance.now();
    this.onStats(JSON.parse(text));
    this.onBadge(this.state, this.heard, 0);
    if (isBack) this.onShown();
  }

  check() {
    if (!this.isOpen) return;
    this.events.check();
    if (this.state === "stale" && performance.now() - this.whyAt > WHY_MS) {
      // A stream does not tell why it is refused; a call finds out who has to sign in again.
      this.whyAt = performance.now();
      fetchJson("api/settings").catch(() => {});
    }
    this.onBadge(this.state, this.heard, performance.now() - this.heard);
  }

  get state() {
    const now = performance.now();
    if (now - this.heard < STALE_MS && this.heard >= this.opened) return "live";
    // What is opened anew is not called stale before it had the time to speak.
    return this.heard === 0 || (this.heard < this.opened && now - this.opened < STALE_MS) ? "connecting" : "stale";
  }
}
