// Notifications of the browser: of problems that begin and of those that end, once for all its tabs.

import { byId, setText } from "./format.js";
import { NAME } from "./share.js";

// The least time between two notifications. What comes and goes in between is not told.
const PAUSE_MS = 60_000;
// What was told so long ago says nothing of what has ended since: no tab was open.
const OLD_MS = 600_000;
// What one tab writes, another one may see only a moment later, though it has waited for the lock: so long a tab keeps it.
const SEEN_MS = 2000;
// "on" where the reader asked for them.
const ON = "notify";
// What was told: `alarms`, each name with its `since` and `text`; `at`, when; `seen`, when a tab last looked.
const TOLD = "notify-told";

// What has begun and what has ended since `told`.
export const news = (told, alarms) => ({
  begun: alarms.filter(({ name, since }) => told[name]?.since !== since),
  ended: Object.entries(told).filter(([name]) => !alarms.some((alarm) => alarm.name === name)).map(([, { text }]) => text),
});

// The title and the text of one notification.
export const words = ({ begun, ended }, host) => ({
  title: begun.length > 0 ? `⚠ playcounts at ${host}` : `playcounts at ${host}: over`,
  body: [...begun.map(({ text, way_out: wayOut }) => `${text} ${wayOut}`.trim()), ...ended.map((text) => `Over: ${text}`)].join("\n"),
});

// Why there can be none; empty where there can.
export const obstacle = ({ isSecureContext, Notification }) => {
  if (!isSecureContext) return "Browsers allow notifications only over HTTPS, or from the same machine. This page came over plain HTTP.";
  if (!Notification) return "This browser has no notifications.";
  if (Notification.permission === "denied") return "This browser blocks notifications of this page. Its settings for the page change that.";
  return "";
};

const read = (key) => {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
};

export class Notifier {
  constructor() {
    Object.assign(this, { busy: false, rest: 0, known: null, failed: "" });
    this.button = byId("notify-button");
    this.button.addEventListener("click", () => this.turn());
    addEventListener("storage", ({ key }) => key === ON && this.draw());
    this.draw();
  }

  get isOn() {
    return read(ON) === true && globalThis.Notification?.permission === "granted" && globalThis.isSecureContext;
  }

  async turn() {
    const on = !this.isOn && (await Notification.requestPermission()) === "granted";
    localStorage.setItem(ON, on);
    // What is wrong now is on the page.
    if (on) localStorage.removeItem(TOLD);
    this.known = null;
    this.draw();
  }

  draw() {
    const why = this.failed || obstacle(globalThis);
    this.button.hidden = why !== "";
    setText(this.button, this.isOn ? "Stop notifying me" : "Notify me in this browser");
    const told = "A problem that begins or ends is notified, once for all tabs of this browser, as long as one of them is open.";
    setText(byId("notify-state"), why || (this.isOn ? told : "This browser can notify you when a problem begins and when it is over."));
  }

  // What is wrong now. Called with every event: most change nothing.
  tell(alarms) {
    const known = alarms.map(({ name, since }) => `${name} ${since}`).join();
    if (known === this.known || this.busy || performance.now() < this.rest || !this.isOn) return;
    this.busy = true;
    // One tab at a time, and the first one tells.
    const tell = () => {
      this.tellOnce(alarms, known);
      return new Promise((done) => setTimeout(done, SEEN_MS));
    };
    navigator.locks.request(`${NAME} notify`, tell).finally(() => (this.busy = false));
  }

  tellOnce(alarms, known) {
    const now = Date.now();
    const told = read(TOLD);
    const isOld = told !== null && now - told.at > OLD_MS && now - told.seen > OLD_MS;
    const { begun, ended } = news(told?.alarms ?? {}, alarms);
    if (told !== null && !isOld && now - told.at < PAUSE_MS && begun.length + ended.length > 0) {
      this.rest = performance.now() + PAUSE_MS - (now - told.at);
      return;
    }
    const fresh = { begun, ended: isOld ? [] : ended };
    let at = told?.at ?? 0;
    // The first look only learns what is on the page.
    if (told !== null && fresh.begun.length + fresh.ended.length > 0) {
      at = now;
      this.show(words(fresh, location.host));
    }
    const kept = Object.fromEntries(alarms.map(({ name, since, text }) => [name, { since, text }]));
    localStorage.setItem(TOLD, JSON.stringify({ alarms: kept, at, seen: now }));
    this.known = known;
  }

  show({ title, body }) {
    try {
      const shown = new Notification(title, { body, tag: NAME, icon: "favicon-alarm.svg", renotify: true });
      shown.addEventListener("click", () => {
        globalThis.focus();
        shown.close();
      });
    } catch {
      // Android's browsers show only those of installed pages.
      this.failed = "This browser shows notifications only of pages that are installed as an app.";
      this.draw();
    }
  }
}
