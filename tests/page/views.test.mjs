// What views compute before they draw: spans and buckets of time, holes in lines, words for what the queue tells.

import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "Asia/Kolkata";
const { label, unhidden } = await import("../../src/dashboard/page/alarm.js");
const { alone, withHoles } = await import("../../src/dashboard/page/charts.js");
const { heardText, toAddress, toLocal, unbroken } = await import("../../src/dashboard/page/overview.js");
const { ago, nameOf, quantiles, span, transport } = await import("../../src/dashboard/page/queue_words.js");
const { dense, lasts, sumOf, weekMeans } = await import("../../src/dashboard/page/video.js");

const { useZone } = await import("../../src/dashboard/page/zones.js");

const table = (name, compute, cases) => test(name, () => {
  for (const [args, expected] of cases) assert.deepEqual(compute(...args), expected, `${name}(${JSON.stringify(args)})`);
});

table("heardText", heardText, [
  [[{ heard_ms_ago: 900 }], "reporting"],
  [[{ heard_ms_ago: 61_000, ended: null, ledger: null }], "silent for 1 min 1 s"],
  [[{ heard_ms_ago: 900, ledger: { state: "dead" } }], "dead"],
  // Who has said goodbye is neither silent nor dead.
  [[{ heard_ms_ago: 61_000, ended: { how: "finished", at: 0 }, ledger: { state: "dead" } }], "finished at 05:30:00"],
  [[{ heard_ms_ago: 900, ended: { how: "stopped", at: 0 } }], "stopped in order at 05:30:00"],
]);

table("label", label, [
  [["well", "info"], "Well:"], [["idle", "info"], "Note:"], [["behind", "warning"], "Look:"], [["store", "error"], "Stopped:"],
  [["run-finished", "info"], ""], [["run-not-verified", "error"], ""],
]);

const [paused, again, silent] = [["a", 1], ["a", 2], ["b", 1]].map(([name, since]) => ({ name, since }));
table("unhidden", unhidden, [
  [[[], { a: 1 }], []], [[[paused, silent], {}], [paused, silent]], [[[paused, silent], { a: 1 }], [silent]],
  // One that ended and began again is news.
  [[[again], { a: 1 }], [again]],
]);

table("withHoles", withHoles, [
  [[[[], []], 1], [[], []]],
  [[[[1, 2, 9], [5, 6, 7]], 0], [[1, 2, 9], [5, 6, 7]]],
  [[[[1, 2, 3], [5, 6, 7]], 1], [[1, 2, 3], [5, 6, 7]]],
  // One and a half steps are no hole yet.
  [[[[1, 2.5], [5, 6]], 1], [[1, 2.5], [5, 6]]],
  [[[[1, 2.6], [5, 6]], 1], [[1, 2, 2.6], [5, null, 6]]],
  [[[[0, 60, 600], [1, 2, 3], [4, null, 6]], 60], [[0, 60, 120, 600], [1, 2, null, 3], [4, null, null, 6]]],
  // A point a minute at first, then one a second.
  [[[[0, 60, 61, 62, 65], [1, 2, 3, 4, 5]], (at) => (at < 61 ? 60 : 1)], [[0, 60, 61, 62, 63, 65], [1, 2, 3, 4, null, 5]]],
]);

table("alone", alone, [
  [[[]], []], [[[1]], [0]], [[[1, 2]], []], [[[1, null, 2, 3, null, 4]], [0, 5]], [[[null, 0, null]], [1]],
  [[[undefined, 5, undefined, 6, 6]], [1]], [[[null, null]], []],
]);

table("dense", dense, [
  [[{ step_ms: 1000, time: [], plays: [] }, 0, 3000], [[0, 1, 2], [0, 0, 0]]],
  [[{ step_ms: 1000, time: [1000, 2000], plays: [5, 7] }, 500, 3000], [[0, 1, 2], [0, 5, 7]]],
  // One bucket at least; what is outside of the span is left out.
  [[{ step_ms: 1000, time: [0], plays: [5] }, 0, 0], [[0], [5]]],
  [[{ step_ms: 1000, time: [-1000, 0, 2000], plays: [1, 2, 3] }, 0, 2000], [[0, 1], [2, 0]]],
  [[{ step_ms: 86_400_000, time: [86_400_000], plays: [2 ** 53 - 1] }, 90_000_000, 172_800_000], [[86_400], [2 ** 53 - 1]]],
]);

table("sumOf", sumOf, [
  [[{ time: [], plays: [] }, 0, 10], 0],
  [[{ time: [0, 5, 10], plays: [1, 2, 4] }, 0, 10], 3],
  [[{ time: [0, 5, 10], plays: [1, 2, 4] }, 5, 11], 6],
  [[{ time: [0, 5, 10], plays: [1, 2, 4] }, 10, 0], 0],
]);

table("lasts", lasts, [[[1, "day"], "day"], [[2, "day"], "2 days"], [[0, "day"], "0 days"], [[1000, "hour"], "1,000 hours"]]);

test("the hours of the week are means of those that are over", () => {
  useZone("UTC");
  const hour = 3600;
  const monday = Date.parse("2026-03-02T10:00Z") / 1000;
  const [week, day] = [168 * hour, 24 * hour];
  const times = [monday - week, monday, monday + hour, monday + day, monday + week, monday + week + hour];
  // The first was not recorded; the last two are of an hour that is over, and of one that goes on.
  const means = weekMeans(times, [999, 10, 7, 5, 20, 1], (monday - hour) * 1000, (monday + week + 1.5 * hour) * 1000);
  assert.deepEqual([means[0][10], means[0][11], means[1][10], means[2][10]], [15, 7, 5, null]);
  // One that goes on is told where there is no other.
  assert.equal(weekMeans([monday], [3], 0, monday * 1000 + 1)[0][10], 3);
  useZone("Asia/Kolkata");
  assert.equal(weekMeans([monday], [3], 0, monday * 1000 + 1)[0][15], 3);
  useZone("");
});

test("times are typed where the reader is, and kept in the address as of UTC", () => {
  assert.equal(toLocal(Date.parse("2026-03-10T20:00:59Z")), "2026-03-11T01:30");
  assert.equal(toAddress("2026-03-11T01:30"), "2026-03-10T20:00Z");
  assert.throws(() => toAddress("11.3.2026 01h"), RangeError);
});

table("unbroken", unbroken, [[["1 ms"], "1\u00a0ms"], [["–"], "–"], [[""], ""]]);

table("ago", ago, [[[0], "now"], [[2999], "now"], [[-5000], "now"], [[3000], "3 s ago"], [[120_000], "2 min ago"]]);

table("span", span, [
  [[0], "0 s"], [[0.5], "0 s"], [[1], "1 s"], [[59.9], "59 s"], [[60], "1 min"], [[61], "1 min 1 s"], [[3600], "1 h"],
  [[3601], "1 h"], [[3660], "1 h 1 min"], [[86_399], "23 h 59 min"], [[86_400], "1 d"], [[90_000], "1 d 1 h"],
  [[400 * 86_400], "400 d"], [[-5], "0 s"],
]);

table("transport", transport, [
  [[{}], "plain"], [[{ tls: false, snappy: false, deflate: false }], "plain"], [[{ tls: true }], "TLS"],
  [[{ tls: true, snappy: true }], "TLS, snappy"], [[{ deflate: true }], "deflate"],
]);

table("nameOf", nameOf, [
  [[{ topic_name: "plays" }], "plays"], [[{ topic_name: "plays", channel_name: "" }], "plays"],
  [[{ topic_name: "plays", channel_name: "count#ephemeral" }], "plays/count#ephemeral"],
]);

const measured = (...list) => ({ e2e_processing_latency: { percentiles: list.map((quantile) => ({ quantile })) } });
table("quantiles", quantiles, [
  [[[]], []],
  [[[{ channels: [] }]], []],
  [[[{ e2e_processing_latency: null, channels: [{}] }]], []],
  [[[{ ...measured(0.99, 0.5), channels: [measured(0.5, 0.999)] }]], [0.5, 0.99, 0.999]],
]);
