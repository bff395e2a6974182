// What the reader looks at, kept in the address: a view can be shared, and the back button works.

import { chosenIn, chosenText } from "./chosen.js";
import { isZone } from "./zones.js";

const oneOf = (...known) => (text) => known.includes(text);
// As the dashboard has it: text of 1 to 128 bytes without control characters.
const isVideo = (text) => text.length <= 128 && new TextEncoder().encode(text).length <= 128 && !/\p{Cc}/u.test(text);
const isName = (text) => /^[.a-zA-Z0-9_-]{1,64}(#ephemeral)?$/.test(text);
const isTime = (text) => !Number.isNaN(Date.parse(text));

// Each name with its default and what it may be; anything else in an address is the default.
const NAMES = {
  view: ["overview", oneOf("overview", "videos", "video", "compare", "counter", "queue", "letters", "help")],
  range: ["30m", oneOf("30m", "today", "7d", "30d", "custom")],
  from: ["", isTime],
  to: ["", isTime],
  zone: ["", isZone],
  percentiles: ["", oneOf("1")],
  top: ["10", oneOf("10", "25", "50", "100")],
  sort: ["-plays", (text) => /^-?(plays|video_id|last_played_at|updated_at)$/.test(text)],
  search: ["", (text) => text.length <= 300],
  video: ["", isVideo],
  minutes: ["1", oneOf("1", "6", "48")],
  hours: ["7", oneOf("7", "30", "90")],
  days: ["30", oneOf("30", "90", "365", "all")],
  topic: ["", isName],
  channel: ["", isName],
  nsqd: ["", (text) => /^\S{1,300}$/.test(text)],
  // Chosen videos, as chosen.js has them.
  videos: ["", (text) => text.length <= 2000 && chosenText(chosenIn(text)) === text],
  span: ["48h", oneOf("6h", "48h", "30d", "1y")],
  page: ["1", (text) => /^[1-9][0-9]{0,3}$/.test(text)],
};

// Where those are looked at that not every view knows.
const ONLY = { video: ["video", "counter"], percentiles: ["overview"], minutes: ["video"], hours: ["video"], days: ["video"], topic: ["queue"], channel: ["queue"], nsqd: ["queue"], page: ["letters"], videos: ["videos", "compare"], span: ["compare"] };

export const parse = (query) => {
  const given = new URLSearchParams(query);
  const values = Object.fromEntries(Object.entries(NAMES).map(([name, [fallback, isGood]]) => {
    const text = given.get(name) ?? "";
    return [name, isGood(text) ? text : fallback];
  }));
  if (values.view === "video" && !values.video) values.view = "videos";
  if (!values.topic) values.channel = "";
  if (values.range === "custom" && !(Date.parse(values.from) < Date.parse(values.to))) values.range = "30m";
  return values;
};

// The address of `values`; defaults, and what another view keeps for itself, are left out.
export const address = (values) => {
  const query = new URLSearchParams();
  for (const [name, [fallback]] of Object.entries(NAMES)) {
    const kept = ONLY[name]?.includes(values.view) ?? true;
    const timed = (name !== "from" && name !== "to") || values.range === "custom";
    if (values[name] !== fallback && kept && timed) query.set(name, values[name]);
  }
  const text = query.toString();
  return `./${text && "?"}${text}`;
};

export class State {
  constructor(onChange) {
    this.onChange = onChange;
    this.values = parse(location.search);
    addEventListener("popstate", () => this.take(parse(location.search)));
    // A link inside the page changes what is shown, not the page; with a modifier it is the browser's.
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[data-inside]");
      const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
      if (!link || !plain || event.defaultPrevented) return;
      event.preventDefault();
      this.go(parse(new URL(link.href).search));
    });
  }

  // The address with `changes`, for a link.
  link(changes) {
    return address({ ...this.values, ...changes });
  }

  // Changes what is shown. A new entry of the history, except where `replace` says that it is the same place.
  set(changes, replace = false) {
    this.go({ ...this.values, ...changes }, replace);
  }

  go(values, replace = false) {
    const there = address(values);
    if (there !== address(this.values)) history[replace ? "replaceState" : "pushState"](null, "", there);
    this.take(values);
  }

  take(values) {
    const before = this.values;
    this.values = values;
    this.onChange(values, before);
  }
}
