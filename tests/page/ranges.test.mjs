// Ranges, their bars and what is before them, in time zones with days of 23 to 25 hours.

import assert from "node:assert/strict";
import { test } from "node:test";

const { barsOf, bounds, summed } = await import("../../src/dashboard/page/ranges.js");
const { useZone } = await import("../../src/dashboard/page/zones.js");

const iso = (ms) => new Date(ms).toISOString().slice(0, 16);
const at = (t, text) => t.mock.method(Date, "now", () => Date.parse(text));

test("a range ends at the next full minute, and its days are those of the zone", (t) => {
  at(t, "2026-03-10T20:20:30Z");
  const end = "2026-03-10T20:21";
  const cases = [
    ["UTC", "30m", "2026-03-10T19:51"], ["UTC", "today", "2026-03-10T00:00"], ["UTC", "7d", "2026-03-04T00:00"], ["UTC", "30d", "2026-02-09T00:00"],
    // There it is the next day already.
    ["Asia/Kolkata", "today", "2026-03-10T18:30"], ["Asia/Kolkata", "7d", "2026-03-04T18:30"], ["America/New_York", "7d", "2026-03-04T05:00"],
  ];
  for (const [zone, range, from] of cases) {
    useZone(zone);
    assert.deepEqual(bounds({ range }).map(iso), [from, end], `${zone} ${range}`);
  }
  const custom = { range: "custom", from: "2026-01-01T00:00Z", to: "2026-01-02T00:00Z" };
  assert.deepEqual(bounds(custom).map(iso), ["2026-01-01T00:00", "2026-01-02T00:00"]);
});

test("today is the day that has begun, in its last minute, too", (t) => {
  at(t, "2026-03-10T23:59:59.999Z");
  useZone("UTC");
  assert.deepEqual(bounds({ range: "today" }).map(iso), ["2026-03-10T00:00", "2026-03-11T00:00"]);
});

test("bars suit the range, and there are as many before it", (t) => {
  at(t, "2026-03-10T10:20:30Z");
  const cases = [
    ["UTC", "2026-03-10T09:51Z", "2026-03-10T10:21Z", "minute", 30, "2026-03-10T09:21", "2026-03-10T09:51"],
    ["UTC", "2026-03-10T00:00Z", "2026-03-11T00:00Z", "hour", 24, "2026-03-09T00:00", "2026-03-09T10:21"],
    ["Asia/Kolkata", "2026-03-03T18:30Z", "2026-03-10T10:21Z", "day", 7, "2026-02-24T18:30", "2026-03-03T10:21"],
    // The clocks were set forward on the 8th: as far into the 7 days before by the clock.
    ["America/New_York", "2026-03-04T05:00Z", "2026-03-10T10:21Z", "day", 7, "2026-02-25T05:00", "2026-03-03T11:21"],
    ["UTC", "2024-01-01T00:00Z", "2026-03-10T10:21Z", "month", 27, "2021-10-01T00:00", "2023-12-09T10:21"],
    // What is over is compared whole.
    ["UTC", "2026-01-01T00:00Z", "2026-01-08T00:00Z", "day", 7, "2025-12-25T00:00", "2026-01-01T00:00"],
  ];
  for (const [zone, from, to, unit, number, begin, cut] of cases) {
    useZone(zone);
    const found = barsOf(Date.parse(from), Date.parse(to));
    assert.deepEqual([found.unit, found.bars.length - 1, iso(found.before[0]), iso(found.old[1])], [unit, number, begin, cut], `${zone} ${from}`);
    assert.equal(found.before.at(-1), found.bars[0]);
    assert.ok(found.edges.every((edge, row) => row === 0 || edge > found.edges[row - 1]));
    assert.ok(found.edges.length <= 500);
  }
  // A range of one's own is summed as it is, and shown in whole bars.
  useZone("UTC");
  const own = barsOf(Date.parse("2026-03-01T10:13Z"), Date.parse("2026-03-02T11:47Z"));
  assert.deepEqual([own.unit, ...[...own.whole, ...own.old, own.bars[0], own.bars.at(-1)].map(iso)],
    ["hour", "2026-03-01T10:13", "2026-03-02T11:47", "2026-02-28T08:13", "2026-03-01T09:47", "2026-03-01T10:00", "2026-03-02T12:00"]);
  // Too many to be asked for twice.
  const year = barsOf(Date.parse("2025-03-10T00:00Z"), Date.parse("2026-03-10T00:00Z"));
  assert.deepEqual([year.unit, year.bars.length - 1, year.before], ["day", 365, []]);
});

test("totals, the bar that is not over, and what is not known", (t) => {
  at(t, "2026-03-10T10:20:30Z");
  useZone("UTC");
  const bars = barsOf(Date.parse("2026-03-08T00:00Z"), Date.parse("2026-03-10T10:21Z"), "day");
  // A play a minute.
  const answer = (known) => ({
    edges: bars.edges, known_from: known, plays: bars.edges.slice(1).map((end, row) => Math.max(0, Math.min(end, Date.parse("2026-03-10T10:21Z")) - bars.edges[row]) / 60_000),
  });
  const all = summed(bars, answer(0));
  assert.deepEqual(all, { plays: [1440, 1440, 621], unfinished: 2, before: [1440, 1440, 1440], total: 3501, totalBefore: 3501 });
  const half = summed(bars, answer(Date.parse("2026-03-06T12:00Z")));
  assert.deepEqual([half.before, half.totalBefore, half.total], [[null, 1440, 1440], null, 3501]);
  const today = barsOf(Date.parse("2026-03-10T00:00Z"), Date.parse("2026-03-11T00:00Z"), "hour");
  const hours = summed(today, { edges: today.edges, known_from: 0, plays: today.edges.slice(1).map(() => 1) });
  // What is to come is not 0.
  assert.deepEqual([hours.unfinished, hours.plays[10], hours.plays[11], hours.before.length], [10, 1, null, 24]);
});

test("an hour is compared with the one of the same clock on a day of 23 hours", (t) => {
  at(t, "2026-03-29T20:00:00Z");
  useZone("Europe/Berlin");
  const bars = barsOf(Date.parse("2026-03-28T23:00Z"), Date.parse("2026-03-29T22:00Z"), "hour");
  assert.equal(bars.bars.length - 1, 23);
  const answer = { edges: bars.edges, known_from: 0, plays: bars.edges.slice(1).map((_, row) => row) };
  const found = summed(bars, answer);
  // 1:00 is 1:00; behind it comes 3:00.
  assert.deepEqual(found.before.slice(0, 4), [0, 1, 3, 4]);
});
