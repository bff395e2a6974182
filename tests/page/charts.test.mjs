// The logarithmic scale of the consumption times, and what the tiles of the overview say: src/dashboard/page/charts.js and overview.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { durationRange, durationTicks } from "../../src/dashboard/page/charts.js";
import { duration } from "../../src/dashboard/page/format.js";
import { publishedText, timesText } from "../../src/dashboard/page/overview.js";

const MINUTE = 60_000;

test("the scale ends at the ticks around the values", () => {
  for (const [low, high, range] of [
    [null, null, [1, 10]], [1.3, 1.4, [1, 2]], [0.9, 139_000, [0.5, 5 * MINUTE]],
    // One value, on a tick.
    [20, 20, [10, 50]], [0.001, 0.001, [0.001, 0.002]],
    // What is less than the least, and more than the most, is drawn as that.
    [-5, 3, [0.001, 5]], [0, 1e12, [0.001, 30 * 86_400_000]], [1e12, 1e12, [7 * 86_400_000, 30 * 86_400_000]],
  ]) assert.deepEqual(durationRange(low, high), range, `${low} to ${high}`);
});

test("ticks are round in the unit that they are told in, and no more than there is room for", () => {
  const labels = (low, high, most) => durationTicks(low, high, most).map(duration).join(" ");
  assert.equal(labels(1, 20, 6), "1 ms 2 ms 5 ms 10 ms 20 ms");
  assert.equal(labels(100, 5 * MINUTE, 12), "100 ms 200 ms 500 ms 1 s 2 s 5 s 10 s 30 s 1 min 2 min 5 min");
  assert.equal(labels(100, 5 * MINUTE, 6), "100 ms 1 s 10 s 1 min");
  assert.equal(labels(0.001, 30 * 86_400_000, 6), "1 µs 1 ms 1 s 10 min 7 d");
  assert.equal(labels(1, 20, 0), "1 ms");
});

test("the tile says now and average", () => {
  const text = (told) => timesText(told).replaceAll("\u00a0", " ");
  assert.equal(text({ realtime_ms: 1.25, average_ms: 3.5, p99_ms: 139_000 }), "now; average 3.5 ms; p99 2 min 19 s");
  assert.equal(text({ realtime_ms: null, average_ms: 3.5, p99_ms: null }), "nothing counted now; average 3.5 ms");
  assert.equal(text({ realtime_ms: null, average_ms: null, p99_ms: null }), "nothing counted now");
});

test("the tile of the plays says what is published, and when the rest is", () => {
  const text = (told) => publishedText({ processors: [{}], publication: null, ...told }).replaceAll("\u00a0", " ");
  const all = { counted_plays: 1234, total_plays: 1234 };
  const ahead = { counted_plays: 1_240_000, total_plays: 1_234_567 };
  const every = { from_plays: 100, every_ms: 30_000, every_ms_most: 30_000, next_ms: 11_001 };
  assert.equal(text({ ...ahead, publication: every }), "1,234,567 published; videos over 100 plays update every 30 s, next in 12 s");
  assert.equal(text({ ...all, publication: { ...every, next_ms: 0 } }), "all published; videos over 100 plays update every 30 s, next now");
  // Several processors; an interval of minutes; every video by interval.
  assert.equal(text({ ...all, publication: { ...every, every_ms: 500, every_ms_most: 90_000, next_ms: 61_000 } }), "all published; videos over 100 plays update every 500 ms to 1 min 30 s, next in 1 min 1 s");
  assert.equal(text({ ...all, publication: { ...every, from_plays: 1 } }), "all published; videos update every 30 s, next in 12 s");
  assert.equal(text(ahead), "1,234,567 published; no processor reports now");
  assert.equal(text({ ...all, processors: [] }), "all published; no processor has reported");
});
