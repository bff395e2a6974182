// One stream of events for all pages of a browser, which opens at most six connections to a dashboard over HTTP/1.1. Each class
// here is as net.js's `Events`: `open`, `close`, and `check` once a second.

import { Events } from "./net.js";

// Who brings the events says once a second that it is there; after this long without a word another takes its place.
const FROZEN_MS = 5000;
// Several that wait do not all take it at once.
const SPREAD_MS = 2000;

// What pages of one dashboard share; an origin may have several, each under a path of its own.
export const NAME = `playcounts ${new URL(".", import.meta.url).pathname}`;

// Over HTTPS, and from this machine: the page that holds the lock listens and tells the others. A browser takes the lock back when
// its page is closed, reloaded or crashes; from one that is frozen it is taken away.
export class LockedEvents {
  constructor(onEvent) {
    const events = new Events((text) => {
      onEvent(text);
      this.channel?.postMessage(text);
    });
    Object.assign(this, { onEvent, events, channel: null, wish: null, release: null, aliveAt: 0 });
  }

  open() {
    this.channel = new BroadcastChannel(NAME);
    this.channel.onmessage = ({ data }) => {
      this.aliveAt = performance.now();
      if (data && !this.release) this.onEvent(data);
    };
    this.wait();
  }

  close() {
    this.give();
    this.channel?.close();
    this.channel = null;
  }

  check() {
    if (this.release) {
      this.events.check();
      this.channel.postMessage("");
    } else if (this.wish && performance.now() - this.aliveAt > FROZEN_MS + this.spread) {
      this.give();
      this.wait({ steal: true });
    }
  }

  // Waits until it is its turn, or takes the turn.
  wait({ steal = false } = {}) {
    const wish = new AbortController();
    Object.assign(this, { wish, aliveAt: performance.now(), spread: Math.random() * SPREAD_MS });
    const lead = () => new Promise((release) => {
      if (this.wish !== wish) return release();
      this.release = release;
      this.events.open();
    });
    // A lock that is stolen cannot be waited for.
    navigator.locks.request(NAME, steal ? { steal } : { signal: wish.signal }, lead).catch(() => {
      // Taken away by another page, which held this one for frozen: it waits again.
      if (this.wish !== wish) return;
      this.give();
      this.wait();
    });
  }

  // Gives the turn back, or no longer waits for it.
  give() {
    const { wish, release } = this;
    Object.assign(this, { wish: null, release: null });
    this.events.close();
    wish?.abort();
    release?.();
  }
}

// Elsewhere, where browsers have no locks: a worker that all pages share listens for them. Another name is another worker: one that
// hangs is left behind by all pages, which tell each other the number of the newest.
export class WorkerEvents {
  constructor(onEvent) {
    Object.assign(this, { onEvent, port: null, channel: null, aliveAt: 0, number: 0, isMissing: false });
  }

  open() {
    this.channel = new BroadcastChannel(`${NAME} worker`);
    this.channel.onmessage = ({ data }) => {
      if (data > this.number) this.follow(data);
      else if (data < this.number) this.channel.postMessage(this.number);
    };
    this.connect();
  }

  // Connects to the worker of its number, and says which that is.
  connect() {
    this.aliveAt = performance.now();
    const name = this.number === 0 ? NAME : `${NAME} ${this.number}`;
    const worker = new SharedWorker(new URL("worker.js", import.meta.url), { type: "module", name });
    this.isMissing = false;
    worker.addEventListener("error", () => (this.isMissing = true));
    this.port = worker.port;
    this.port.onmessage = ({ data }) => {
      this.aliveAt = performance.now();
      if (data) this.onEvent(data);
    };
    this.channel.postMessage(this.number);
  }

  leave() {
    this.port.postMessage("close");
    this.port.close();
  }

  follow(number) {
    this.leave();
    this.number = number;
    this.connect();
  }

  close() {
    if (!this.port) return;
    this.leave();
    this.port = null;
    this.channel.close();
  }

  check() {
    if (!this.port) return;
    this.port.postMessage("");
    if (performance.now() - this.aliveAt < FROZEN_MS) return;
    // One that could not be loaded, as the dashboard is away, is the same for all pages.
    this.follow(this.isMissing ? this.number : this.number + 1);
  }
}

// What this browser can do here.
export const shared = (onEvent) => {
  if (navigator.locks && globalThis.BroadcastChannel) return new LockedEvents(onEvent);
  return globalThis.SharedWorker ? new WorkerEvents(onEvent) : new Events(onEvent);
};
