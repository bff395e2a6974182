// Where days, hours and months begin in a time zone.

import assert from "node:assert/strict";
import { test } from "node:test";

const { dayStart, edges, isZone, monthStart, useZone, wall, zone } = await import("../../src/dashboard/page/zones.js");

const iso = (ms) => new Date(ms).toISOString().slice(0, 16);
const at = (text) => Date.parse(`${text}Z`);

test("clocks of a zone", () => {
  const cases = [
    ["UTC", "2026-03-10T10:00", "2026-03-10T10:00"], ["Asia/Kolkata", "2026-03-10T20:00", "2026-03-11T01:30"],
    ["Asia/Kathmandu", "2026-03-10T20:00", "2026-03-11T01:45"], ["America/New_York", "2026-03-08T06:59", "2026-03-08T01:59"],
    ["America/New_York", "2026-03-08T07:00", "2026-03-08T03:00"], ["Australia/Lord_Howe", "2026-04-04T15:00", "2026-04-05T01:30"],
  ];
  for (const [name, utc, shown] of cases) assert.equal(iso(wall(at(utc), name)), shown, `${name} ${utc}`);
});

test("days begin at midnight, or behind it where clocks skip it", () => {
  const cases = [
    ["UTC", "2026-03-10T10:20", "2026-03-10T00:00"], ["Asia/Kolkata", "2026-03-10T20:00", "2026-03-10T18:30"],
    ["Asia/Kathmandu", "2026-03-10T10:00", "2026-03-09T18:15"], ["America/New_York", "2026-03-08T23:00", "2026-03-08T05:00"],
    ["America/New_York", "2026-03-09T05:00", "2026-03-09T04:00"], ["Pacific/Kiritimati", "2026-03-10T10:00", "2026-03-10T10:00"],
    ["Pacific/Kiritimati", "2026-03-10T09:59", "2026-03-09T10:00"], ["Pacific/Pago_Pago", "2026-03-10T10:59", "2026-03-09T11:00"],
    ["Australia/Lord_Howe", "2026-04-05T00:00", "2026-04-04T13:00"],
    // There was no 0:00 in Beirut on that day, and in Sao Paulo one hour was there twice before midnight.
    ["Asia/Beirut", "2026-03-29T10:00", "2026-03-28T22:00"], ["America/Sao_Paulo", "2018-02-18T10:00", "2018-02-18T03:00"],
    ["America/Sao_Paulo", "2018-11-04T10:00", "2018-11-04T03:00"],
  ];
  for (const [name, moment, start] of cases) assert.equal(iso(dayStart(at(moment), 0, name)), start, `${name} ${moment}`);
  assert.equal(iso(dayStart(at("2026-03-10T10:20"), -6, "Europe/Berlin")), "2026-03-03T23:00");
});

test("days of 23 and 25 hours have as many", () => {
  const hours = (name, day) => {
    const found = edges("hour", dayStart(at(day), 0, name), dayStart(at(day), 1, name), name);
    return [found.length - 1, found.slice(1).map((edge, row) => (edge - found[row]) / 60_000).filter((minutes) => minutes !== 60)];
  };
  assert.deepEqual(hours("Europe/Berlin", "2026-03-29T12:00"), [23, []]);
  assert.deepEqual(hours("Europe/Berlin", "2026-10-25T12:00"), [25, []]);
  assert.deepEqual(hours("Europe/Berlin", "2026-10-26T12:00"), [24, []]);
  assert.deepEqual(hours("Asia/Kolkata", "2026-10-25T12:00"), [24, []]);
  // Clocks change by half an hour there: one hour is as much longer or shorter.
  assert.deepEqual(hours("Australia/Lord_Howe", "2026-04-05T01:00"), [24, [90]]);
  assert.deepEqual(hours("Australia/Lord_Howe", "2026-10-04T01:00"), [23, [90]]);
});

test("edges cover a range, and days add up to it whatever the zone", () => {
  for (const name of ["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Europe/Berlin", "Pacific/Apia"]) {
    const found = edges("day", at("2025-12-31T12:34"), at("2027-01-01T00:00"), name);
    assert.ok(found.length >= 367 && found.length <= 369, `${name}: ${found.length}`);
    for (const [row, edge] of found.slice(1).entries()) {
      const minutes = (edge - found[row]) / 60_000;
      assert.ok([1380, 1410, 1440, 1470, 1500].includes(minutes), `${name} ${iso(found[row])}: ${minutes}`);
      assert.equal(wall(edge, name) % 86_400_000, 0, `${name} ${iso(edge)}`);
    }
  }
  assert.deepEqual(edges("month", at("2026-01-15T00:00"), at("2026-03-01T00:00"), "Asia/Kolkata").map(iso),
    ["2025-12-31T18:30", "2026-01-31T18:30", "2026-02-28T18:30", "2026-03-31T18:30"].slice(0, 4));
  assert.deepEqual(edges("minute", at("2026-01-01T00:00") + 1, at("2026-01-01T00:02"), "UTC").map(iso), ["2026-01-01T00:00", "2026-01-01T00:01", "2026-01-01T00:02"]);
  assert.equal(iso(monthStart(at("2026-01-15T00:00"), -1, "UTC")), "2025-12-01T00:00");
});

test("the zone of the address holds, then the one that was kept, then the browser's", (t) => {
  const values = new Map();
  globalThis.localStorage = { getItem: (name) => values.get(name) ?? null, setItem: (name, value) => values.set(name, value), removeItem: (name) => values.delete(name) };
  t.after(() => { delete globalThis.localStorage; });
  const browser = Intl.DateTimeFormat().resolvedOptions().timeZone;
  useZone("");
  assert.equal(zone(), browser);
  values.set("zone", "Asia/Tokyo");
  assert.equal(useZone(""), true);
  assert.equal(zone(), "Asia/Tokyo");
  useZone("Asia/Kolkata");
  assert.equal(zone(), "Asia/Kolkata");
  // What an older browser has kept may be no zone here.
  values.set("zone", "Mars/Phobos");
  useZone("");
  assert.equal(zone(), browser);
  assert.deepEqual(["UTC", "Asia/Kolkata", "Mars/Phobos", "", "+05:30x"].map(isZone), [true, true, false, false, false]);
});
