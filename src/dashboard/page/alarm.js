// What is wrong, on every view: a banner, a mark at "Queue", the tab's title and its icon. A tab in the background, which has no
// stream, asks for the alarms alone.

import { now } from "./clock.js";
import { byId, dateTime, element, isToday, many, setAttribute, setText, setWords, time } from "./format.js";
import { fetchJson, unreachable } from "./net.js";
import { NAME } from "./share.js";

// How often a tab in the background asks. A browser may let it wait for a minute.
const POLL_MS = 15_000;
// How often a page that listens tells those in the background, if nothing changes.
const SHARED_MS = 5000;
// The dashboard may be started again for so long before its absence is an alarm.
const LOST_MS = 10_000;
// The most that the banner lists; a link leads to the others.
const LISTED_MAX = 2;
// Which alarms the reader has hidden, by name, with the `since` of each; for all tabs of this browser.
const HIDDEN = "alarms-hidden";

// What stands before a finding or an alarm. How a run has ended is told by its own first words.
export const label = (code, severity) => {
  if (code.startsWith("run-")) return "";
  return { error: "Stopped:", warning: "Look:" }[severity] ?? (code === "well" ? "Well:" : "Note:");
};

// The alarms that the reader has not hidden. One that ended and began again has another `since`.
export const unhidden = (alarms, hidden) => alarms.filter(({ name, since }) => hidden[name] !== since);

const isSame = (some, others) => some.length === others.length && some.every(({ name, since }, at) => name === others[at].name && since === others[at].since);

// A time of today, or with its date.
const sinceText = (ms) => `Since ${isToday(ms) ? time(ms) : dateTime(ms)}.`;

const readHidden = () => {
  try {
    return JSON.parse(localStorage.getItem(HIDDEN)) ?? {};
  } catch {
    return {};
  }
};

export class Alarms {
  constructor(state, notifier) {
    Object.assign(this, { state, notifier, told: [], lostSince: 0, base: "playcounts", said: "", toldAt: -Infinity });
    addEventListener("storage", ({ key }) => key === HIDDEN && this.draw());
    // Nobody sees it before it is looked at; then the stream tells.
    setInterval(() => document.hidden && this.ask(), POLL_MS);
    // The list of videos leaves room for the banner: the whole of both is seen.
    const banner = byId("alarms");
    new ResizeObserver(() => document.documentElement.style.setProperty("--alarms", `${banner.offsetHeight}px`)).observe(banner);
    const listen = () => this.listen();
    addEventListener("pagehide", () => {
      this.channel.close();
      this.channel = null;
    });
    addEventListener("pageshow", ({ persisted }) => persisted && listen());
    listen();
  }

  // What one page hears, the others hear: of many in the background one asks.
  listen() {
    this.channel = new BroadcastChannel(`${NAME} alarms`);
    this.channel.onmessage = ({ data }) => {
      this.toldAt = performance.now();
      if (document.hidden) this.take(data);
    };
  }

  // The title of the view on show, without what is wrong.
  setTitle(base) {
    this.base = base;
    this.draw();
  }

  // What the dashboard tells.
  show(alarms) {
    const moment = performance.now();
    // Others need not hear each event.
    if (moment - this.toldAt > SHARED_MS || !isSame(alarms, this.told)) {
      this.toldAt = moment;
      this.channel?.postMessage(alarms);
    }
    this.take(alarms);
  }

  // Told by this page, or by another one.
  take(alarms) {
    this.told = alarms;
    this.lostSince = 0;
    this.draw();
    this.notifier.tell(alarms);
  }

  // Nothing was heard for so many ms.
  quiet(ms) {
    if (ms < LOST_MS || this.lostSince) return;
    this.lostSince = now() - ms;
    this.draw();
  }

  async ask() {
    // Another page has told lately; a second for the call itself.
    if (performance.now() - this.toldAt < POLL_MS - 1000) return;
    try {
      this.show((await fetchJson("api/alarms")).alarms);
    } catch {
      this.quiet(LOST_MS);
    }
  }

  hide({ name, since }) {
    const there = Object.fromEntries(this.told.map((alarm) => [alarm.name, alarm.since]));
    // What is over need not be remembered.
    const kept = Object.entries({ ...readHidden(), [name]: since }).filter(([known, at]) => there[known] === at);
    localStorage.setItem(HIDDEN, JSON.stringify(Object.fromEntries(kept)));
    this.draw();
    byId("main").focus();
  }

  draw() {
    const lost = { name: "unreachable", severity: "error", text: unreachable(), way_out: "", since: this.lostSince };
    const shown = [...(this.lostSince ? [lost] : []), ...unhidden(this.told, readHidden())];
    const title = `${shown.length > 0 ? "⚠ " : ""}${this.base}`;
    if (document.title !== title) document.title = title;
    setAttribute(byId("icon"), "href", shown.length > 0 ? "favicon-alarm.svg" : "favicon.svg");
    const number = this.told.length;
    byId("queue-mark").hidden = number === 0;
    setText(byId("queue-mark-count"), String(number));
    setText(byId("queue-mark-more"), number === 1 ? " problem" : " problems");
    this.list(shown);
    this.say(shown);
  }

  list(shown) {
    const list = byId("alarm-list");
    byId("alarms").hidden = shown.length === 0;
    const listed = shown.slice(0, LISTED_MAX);
    while (list.children.length > listed.length) list.lastElementChild.remove();
    listed.forEach((alarm, index) => showAlarm(list.children[index] ?? list.appendChild(this.newItem()), alarm));
    byId("alarm-more").hidden = shown.length <= LISTED_MAX;
    setText(byId("alarm-link"), `and ${many(shown.length - LISTED_MAX, "problem")} more`);
    setAttribute(byId("alarm-link"), "href", this.state.link({ view: "queue", video: "" }));
  }

  newItem() {
    const item = element("li");
    const text = element("p");
    text.append(element("strong"), " ", element("span"), " ", element("span", "way-out"), " ", element("span", "alarm-since"));
    const button = element("button", "", "Hide");
    button.type = "button";
    button.addEventListener("click", () => this.hide(item.alarm));
    item.append(text, button);
    return item;
  }

  // Heard once when it begins, and not again while its numbers change.
  say(shown) {
    const names = shown.map(({ name, since }) => `${name} ${since}`).join();
    if (names === this.said) return;
    const known = this.said.split(",");
    const news = shown.filter(({ name, since }) => !known.includes(`${name} ${since}`));
    this.said = names;
    const texts = news.map(({ name, severity, text }) => `${label(name, severity)} ${text}`);
    if (shown.length === 0 || texts.length > 0) setText(byId("alarm-said"), texts.join(" ") || "No problem any more.");
  }
}

const showAlarm = (item, alarm) => {
  const { name, severity, text, way_out: wayOut, since } = alarm;
  const [words, button] = item.children;
  item.alarm = alarm;
  setAttribute(item, "data-alarm", name);
  setAttribute(item, "data-severity", severity);
  setText(words.children[0], label(name, severity));
  setWords(words.children[1], text);
  setWords(words.children[2], wayOut);
  // The text of one that cannot be reached says it.
  setText(words.children[3], name === "unreachable" ? "" : sinceText(since));
  button.hidden = name === "unreachable";
  setAttribute(button, "aria-label", `Hide: ${text}`);
};
