// What the reader looks at, and its address: src/dashboard/page/state.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { address, parse, State } from "../../src/dashboard/page/state.js";

const VIDEO = "0189f7ea-ae2c-7bcd-8a45-0123456789ab";
const DEFAULTS = {
  view: "overview", range: "30m", from: "", to: "", top: "10", sort: "-plays", search: "", video: "",
  minutes: "1", hours: "7", days: "30", topic: "", channel: "", nsqd: "", page: "1", videos: "", span: "48h",
  zone: "", percentiles: "",
};

// Each query with what it says that is not the default.
const QUERIES = [
  ["", {}], ["?", {}], ["?nothing=1", {}], ["?view=", {}], ["?view=queue", { view: "queue" }], ["view=queue", { view: "queue" }],
  ["?view=Queue", {}], ["?view=constructor", {}], ["?view=queue&view=help", { view: "queue" }], ["?view=nothing&view=help", {}],
  // A video's view needs a video.
  ["?view=video", { view: "videos" }], [`?view=video&video=${VIDEO}`, { view: "video", video: VIDEO }],
  // Any text of 1 to 128 bytes without control characters is an id.
  ["?view=video&video=dQw4w9WgXcQ", { view: "video", video: "dQw4w9WgXcQ" }], ["?view=video&video=17", { view: "video", video: "17" }],
  ["?view=video&video=https%3A%2F%2Fa%2F%3Fb%3D1%26c%23d", { view: "video", video: "https://a/?b=1&c#d" }],
  ["?view=video&video=-%20%3Cb%3E%2F..%2F%25", { view: "video", video: "- <b>/../%" }],
  [`?view=video&video=${"a".repeat(128)}`, { view: "video", video: "a".repeat(128) }], [`?view=video&video=${"a".repeat(129)}`, { view: "videos" }],
  [`?view=video&video=${"%C3%A9".repeat(64)}`, { view: "video", video: "é".repeat(64) }], [`?view=video&video=${"%C3%A9".repeat(65)}`, { view: "videos" }],
  ["?view=video&video=a%0Ab", { view: "videos" }], ["?view=video&video=a%C2%85", { view: "videos" }],
  // A topic, a channel of a topic, an nsqd; names as nsqd takes them.
  ["?view=queue&topic=plays&channel=c%23ephemeral", { view: "queue", topic: "plays", channel: "c#ephemeral" }],
  ["?view=queue&channel=c", { view: "queue" }], ["?view=queue&topic=a%2Fb", { view: "queue" }], [`?topic=${"a".repeat(65)}`, {}],
  ["?view=queue&nsqd=127.0.0.1:4151", { view: "queue", nsqd: "127.0.0.1:4151" }], ["?nsqd=a%20b", {}],
  ["?view=compare&videos=a%2Cb%252Cc&span=1y", { view: "compare", videos: "a,b%2Cc", span: "1y" }],
  ["?videos=a,a", {}], ["?videos=a,b,c,d,e,f", {}], ["?videos=%25E0%25A4%25A", {}], ["?span=2h", {}],
  ["?view=letters&page=3", { view: "letters", page: "3" }], ["?page=0", {}], ["?page=-1", {}], ["?page=12345", {}],
  ["?view=counter", { view: "counter" }], [`?view=counter&video=${VIDEO}`, { view: "counter", video: VIDEO }],
  ["?percentiles=1", { percentiles: "1" }], ["?percentiles=yes", {}],
  ["?top=25", { top: "25" }], ["?top=025", {}], ["?top=25.0", {}], ["?top=1e2", {}], ["?top=-10", {}], ["?top=%D9%A2%D9%A5", {}],
  ["?minutes=48&hours=90&days=all", { minutes: "48", hours: "90", days: "all" }], ["?minutes=0&hours=8&days=31", {}],
  ["?sort=plays", { sort: "plays" }], ["?sort=-updated_at", { sort: "-updated_at" }], ["?sort=--plays", {}],
  ["?sort=plays%20", {}], ["?sort=plays%0A", {}], ["?sort=share", {}],
  ["?search=0189", { search: "0189" }], ["?search=%3Cb%3E", { search: "<b>" }], ["?search=a+b", { search: "a b" }],
  [`?search=${"a".repeat(300)}`, { search: "a".repeat(300) }], [`?search=${"a".repeat(301)}`, {}],
  ["?search=%E0%A4%A", { search: "\ufffd%A" }],
  ["?zone=Asia/Kolkata", { zone: "Asia/Kolkata" }], ["?zone=UTC&range=today", { zone: "UTC", range: "today" }], ["?zone=Mars/Phobos", {}],
  ["?range=7d", { range: "7d" }], ["?range=8d", {}], ["?range=custom", {}],
  ["?range=custom&from=2026-01-01T00:00Z&to=2026-01-02T00:00Z", { range: "custom", from: "2026-01-01T00:00Z", to: "2026-01-02T00:00Z" }],
  ["?range=custom&from=2026-01-02T00:00Z&to=2026-01-01T00:00Z", { from: "2026-01-02T00:00Z", to: "2026-01-01T00:00Z" }],
  ["?range=custom&from=2026-01-01T00:00Z&to=2026-01-01T00:00Z", { from: "2026-01-01T00:00Z", to: "2026-01-01T00:00Z" }],
  ["?range=custom&from=2026-01-01T00:00Z", { from: "2026-01-01T00:00Z" }],
  ["?range=custom&from=31.12.2025&to=2026-01-02T00:00Z", { to: "2026-01-02T00:00Z" }],
  ["?range=custom&from=2026-02-30T25:00Z&to=2026-03-02T00:00Z", { to: "2026-03-02T00:00Z" }],
];

test("an address says what is shown; what it says wrongly is the default", () => {
  for (const [query, expected] of QUERIES) assert.deepEqual(parse(query), { ...DEFAULTS, ...expected }, query);
});

test("what is shown comes back from its address", () => {
  for (const [query] of QUERIES) {
    const values = parse(query);
    const again = parse(new URL(address(values), "http://host").search);
    assert.equal(address(again), address(values), query);
    assert.deepEqual([again.view, again.range, again.sort, again.search], [values.view, values.range, values.sort, values.search], query);
  }
});

test("an address has what is not the default, and what its view knows", () => {
  const cases = [
    [{}, "./"], [{ view: "queue" }, "./?view=queue"], [{ search: "a b&c" }, "./?search=a+b%26c"],
    [{ from: "2026-01-01T00:00Z", to: "2026-01-02T00:00Z" }, "./"],
    [{ range: "custom", from: "a", to: "b" }, "./?range=custom&from=a&to=b"],
    [{ view: "videos", video: VIDEO }, "./?view=videos"], [{ view: "video", video: VIDEO }, `./?view=video&video=${VIDEO}`],
    [{ view: "counter", video: VIDEO }, `./?view=counter&video=${VIDEO}`],
    [{ view: "counter", minutes: "6", hours: "30", days: "all" }, "./?view=counter"],
    [{ view: "video", video: VIDEO, minutes: "6", days: "all" }, `./?view=video&video=${VIDEO}&minutes=6&days=all`],
    [{ view: "queue", topic: "plays", nsqd: "a:1", page: "2" }, "./?view=queue&topic=plays&nsqd=a%3A1"],
    [{ view: "compare", videos: "a,b%2Cc" }, "./?view=compare&videos=a%2Cb%252Cc"], [{ view: "queue", videos: "a", span: "1y" }, "./?view=queue"],
    [{ view: "letters", topic: "plays", page: "2" }, "./?view=letters&page=2"], [{ view: "overview", topic: "plays" }, "./"],
    // A range and a search stay while another view is looked at.
    [{ percentiles: "1" }, "./?percentiles=1"], [{ view: "videos", percentiles: "1" }, "./?view=videos"],
    [{ view: "queue", range: "7d", search: "0" }, "./?view=queue&range=7d&search=0"],
  ];
  for (const [values, expected] of cases) assert.equal(address({ ...DEFAULTS, ...values }), expected);
});

// A browser at an address: what its state tells, what its history is told, and ways to act on it.
const open = (t, search) => {
  const told = [];
  const entries = [];
  const listeners = {};
  const listen = (name, listener) => (listeners[name] = listener);
  const fakes = {
    location: { search }, addEventListener: listen, document: { addEventListener: listen },
    history: { pushState: (_, __, to) => entries.push(`push ${to}`), replaceState: (_, __, to) => entries.push(`replace ${to}`) },
  };
  Object.assign(globalThis, fakes);
  t.after(() => Object.keys(fakes).forEach((name) => delete globalThis[name]));
  const state = new State((values, before) => told.push([before.view, values.view]));
  const click = (href, event = {}) => {
    const link = href && { href: `http://host${href}` };
    let prevented = false;
    const preventDefault = () => (prevented = true);
    listeners.click({ button: 0, target: { closest: () => link }, preventDefault, ...event });
    return prevented;
  };
  const back = (to) => {
    globalThis.location.search = to;
    listeners.popstate();
  };
  return { state, told, entries, click, back };
};

test("a change makes an entry of the history, the same place makes none", (t) => {
  const { state, told, entries } = open(t, "?view=videos");
  state.set({ view: "queue" });
  state.set({ view: "queue" });
  state.set({ video: VIDEO });
  state.set({ search: "01" }, true);
  assert.deepEqual(entries, ["push ./?view=queue", "replace ./?view=queue&search=01"]);
  assert.deepEqual(told, [["videos", "queue"], ["queue", "queue"], ["queue", "queue"], ["queue", "queue"]]);
  assert.equal(state.link({ view: "help" }), "./?view=help&search=01");
  assert.equal(state.values.view, "queue", "a link changes nothing");
});

test("back shows what was there and makes no entry", (t) => {
  const { state, told, entries, back } = open(t, "?view=videos");
  back("?view=help");
  assert.equal(state.values.view, "help");
  assert.deepEqual([told, entries], [[["videos", "help"]], []]);
});

test("a plain click on a link inside stays on the page, all others are the browser's", (t) => {
  const { entries, click } = open(t, "");
  const others = [{ button: 1 }, { ctrlKey: true }, { metaKey: true }, { shiftKey: true }, { altKey: true }, { defaultPrevented: true }, { target: {} }];
  for (const event of others) assert.equal(click("/?view=help", event), false, Object.keys(event)[0]);
  assert.equal(click(null), false, "no link");
  assert.deepEqual(entries, []);
  assert.equal(click("/?view=help"), true);
  assert.deepEqual(entries, ["push ./?view=help"]);
});
