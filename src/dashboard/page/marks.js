// What happened that a chart cannot tell: starts, resets, imports, corrections, pauses, processors that ended. Marked on the
// time axis of every chart, and listed below them.

import { setMarks } from "./charts.js";
import { byId, dateTime, element, many, setText } from "./format.js";
import { fetchJson } from "./net.js";
import { bounds } from "./ranges.js";

const ASK_MS = 30_000;
// The most that are listed; those that are left out are the oldest.
const LISTED_MAX = 50;
// Nearer together than this they are one.
const SAME_MS = 1000;

// What is marked of the action log, in words.
const ACTIONS = {
  reset: () => "Counts reset", import: (on) => `Import ${on}`, "take back": (on) => `Import ${on} taken back`,
  correct: (on) => `Video ${on} corrected`, hide: (on) => `Video ${on} hidden`, delete: (on) => `${on} deleted`, show: (on) => `Video ${on} shown again`,
  pause: (on) => `${on} paused`, unpause: (on) => `${on} unpaused`, empty: (on) => `${on} emptied`,
};
const ENDINGS = { finished: "finished", stopped: "was stopped" };

// Of the queue: their outcome is "asked" first, then "done" or why not. That of a video's is its reason.
const isOfQueue = ({ action, target }) => ["pause", "unpause", "empty"].includes(action) || (action === "delete" && target.includes(" "));

// All that is known, the oldest first: { at, text }. An action is written down when it is asked for, too; it is marked once
// it is done.
export const marksOf = ({ started, audit, processors }) => {
  const actions = audit.filter((line) => Object.hasOwn(ACTIONS, line.action) && (!isOfQueue(line) || line.outcome === "done"));
  const ended = processors.filter((one) => one.ended && ENDINGS[one.ended.how]);
  const all = [
    ...(typeof started === "number" ? [{ at: started, text: "Dashboard started" }] : []),
    ...actions.map(({ at, action, target }) => ({ at, text: ACTIONS[action](target) })),
    ...ended.map(({ processor, ended: { how, at } }) => ({ at, text: `Processor ${processor} ${ENDINGS[how]}` })),
  ].sort((one, other) => one.at - other.at);
  return all.filter(({ at, text }, index) => index === 0 || all[index - 1].text !== text || at - all[index - 1].at > SAME_MS);
};

export class Marks {
  constructor(state) {
    Object.assign(this, { state, started: null, all: [], asking: false });
    setInterval(() => this.ask(), ASK_MS);
  }

  show() {
    this.draw();
    this.ask();
  }

  async ask() {
    if (this.asking || document.hidden || !["overview", "video", "compare"].includes(this.state.values.view)) return;
    this.asking = true;
    try {
      const [settings, { audit }, { processors }] = await Promise.all(["api/settings", "api/audit", "api/processors"].map((path) => fetchJson(path)));
      this.all = marksOf({ started: settings.started_at, audit, processors });
      setMarks(this.all);
      this.draw();
    } catch {
      // The views say what is wrong with the dashboard; what was known stays.
    }
    this.asking = false;
  }

  draw() {
    if (this.state.values.view !== "overview") return;
    const [from, to] = bounds(this.state.values);
    const within = this.all.filter(({ at }) => at >= from && at <= to).slice(-LISTED_MAX).reverse();
    byId("marks").hidden = within.length === 0;
    setText(byId("marks-title"), `${many(within.length, "event")} marked in the charts`);
    const list = byId("marks-rows");
    while (list.children.length > within.length) list.lastElementChild.remove();
    within.forEach(({ at, text }, index) => {
      const row = list.children[index] ?? list.appendChild(element("li"));
      setText(row, `${dateTime(at)}: ${text}`);
    });
  }
}
