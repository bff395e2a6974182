// Numbers and times as the page shows them: src/dashboard/page/format.js.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

// The formats take the zone of the moment they are made in.
process.env.TZ = "UTC";
const format = await import("../../src/dashboard/page/format.js");

// One column of arguments, one of what is shown. The name of a case is its arguments.
const table = (name, show, cases) => test(name, () => {
  for (const [args, shown] of cases) {
    const given = Array.isArray(args) ? args : [args];
    assert.equal(show(...given), shown, `${name}(${given.map(String).join(", ")})`);
  }
});

const MISSING = [undefined, null, "5", "1,5", {}].map((value) => [value, "–"]);

table("count", format.count, [
  ...MISSING, [0, "0"], [1, "1"], [999, "999"], [1000, "1,000"], [1_234_567, "1,234,567"], [-5, "-5"], [-1234, "-1,234"],
  [2 ** 53 - 1, "9,007,199,254,740,991"], [1e21, "1,000,000,000,000,000,000,000"], [1.4, "1"], [1.6, "2"],
  [NaN, "NaN"], [Infinity, "∞"],
]);

table("many", format.many, [
  [[0, "video"], "0 videos"], [[1, "video"], "1 video"], [[2, "video"], "2 videos"], [[1_000_000, "video"], "1,000,000 videos"],
  [[undefined, "video"], "– videos"], [[-1, "play"], "-1 plays"],
]);

table("rate", format.rate, [
  ...MISSING, [0, "0"], [0.00012345, "0.000123"], [0.5, "0.5"], [1, "1"], [12.345, "12.3"], [99.94, "99.9"], [100, "100"],
  [100.4, "100"], [12_345.6, "12,346"], [-12.345, "-12.3"], [NaN, "NaN"],
]);

table("short", format.short, [
  [0, "0"], [1, "1"], [999, "999"], [1000, "1K"], [1234, "1.23K"], [999_999, "1M"], [1e6, "1M"], [2_500_000_000, "2.5B"],
  [1e12, "1T"], [-1500, "-1.5K"], [NaN, "NaN"],
]);

table("share", format.share, [
  ...MISSING, [0, "0.00 %"], [1e-9, "<0.01 %"], [0.000099, "<0.01 %"], [0.0001, "0.01 %"], [0.005, "0.50 %"], [0.01, "1.0 %"],
  [0.123456, "12.3 %"], [1, "100.0 %"], [12, "1200.0 %"],
]);

table("change", format.change, [
  [[1, undefined], "–"], [[undefined, 1], "–"], [["2", 1], "–"], [[1, null], "–"],
  [[0, 0], "0 %"], [[1, 0], "new"], [[5, 5], "0 %"], [[99_999, 100_000], "0 %"], [[100_001, 100_000], "0 %"], [[9990, 10_000], "−0.1 %"], [[0, 5], "−100 %"],
  [[105, 100], "+5.0 %"], [[95, 100], "−5.0 %"], [[120, 100], "+20 %"], [[50, 100], "−50 %"],
  [[1099, 100], "+999 %"], [[1100, 100], "×11"], [[1e9, 1], "×1B"],
]);

table("against", format.against, [
  [[1, undefined, "last week"], ""], [[1, null, "last week"], ""], [[1, 0, "last week"], ", none in last week"],
  [[0, 0, "last week"], ", none in last week"], [[2, 1, "last week"], ", +100 % against last week"],
  [[undefined, 1, "last week"], ", – against last week"],
]);

table("duration", format.duration, [
  ...MISSING, [0, "0 ms"], [0.0005, "0.5 µs"], [0.9, "900 µs"], [1, "1 ms"], [1.2345, "1.23 ms"], [999, "999 ms"], [1000, "1 s"],
  [1500, "1.5 s"], [59_949, "59.9 s"], [59_999, "1 min"], [60_000, "1 min"], [119_999, "1 min 59 s"], [400_000, "6 min 40 s"],
  [1_898_000, "31 min 38 s"], [3_600_000, "1 h"], [3_660_000, "1 h 1 min"], [4320 * 60_000, "3 d"], [90_000_000, "1 d 1 h"], [86_400_000_000, "1,000 d"],
  [-0.5, "-500 µs"], [-1500, "-1.5 s"], [-150_000, "-2 min 30 s"],
]);

table("age", format.age, [
  [0, "0 s"], [999, "0 s"], [1000, "1 s"], [119_999, "119 s"], [120_000, "2 min"], [179_999, "2 min"], [3_600_000, "60 min"], [7_200_000, "2 h"],
  [172_799_999, "47 h"], [172_800_000, "2 d"],
  // A clock that was put back.
  [-1, "0 s"], [-120_000, "0 s"],
]);

table("bytes", format.bytes, [
  ...MISSING, [0, "0 B"], [1, "1 B"], [999, "999 B"], [1000, "1 kB"], [1536, "1.54 kB"], [1e6, "1 MB"], [1e9, "1 GB"],
  [1.5e12, "1,500 GB"],
]);

// ---- times

// Runs at a time of its own.
const at = (time, run) => {
  const Real = globalThis.Date;
  globalThis.Date = class extends Real {
    constructor(...args) {
      super(...(args.length === 0 ? [time] : args));
    }

    static now() {
      return Real.parse(time);
    }
  };
  try {
    run();
  } finally {
    globalThis.Date = Real;
  }
};

test("a moment is a time today and a date on other days", () => at("2026-03-10T12:00:00Z", () => {
  const cases = [
    ["2026-03-10T00:00:00Z", "00:00:00"], ["2026-03-10T23:59:59Z", "23:59:59"],
    ["2026-03-09T23:59:59Z", "2026-03-09"], ["2026-03-11T00:00:00Z", "2026-03-11"], ["1970-01-01T00:00:00Z", "1970-01-01"],
  ];
  for (const [time, shown] of cases) assert.equal(format.moment(Date.parse(time)), shown, time);
  for (const missing of [undefined, null, "2026-03-10"]) assert.equal(format.moment(missing), "–");
}));

test("a date is ISO's, with its time to the minute or to the second", () => {
  const cases = [["2026-01-01T00:00:00Z", "2026-01-01 00:00:00"], ["2025-12-31T23:59:07Z", "2025-12-31 23:59:07"]];
  for (const [time, shown] of cases) {
    assert.equal(format.stamp(Date.parse(time)), shown);
    assert.equal(format.dateTime(Date.parse(time)), shown.slice(0, 16));
  }
});

test("the label of a tick tells what changes from one to the next", () => at("2026-03-10T12:00:00Z", () => {
  const cases = [
    ["2026-03-10T10:20:30Z", 1, "10:20:30"], ["2026-03-10T10:20:30Z", 59, "10:20:30"], ["2026-03-10T10:20:00Z", 60, "10:20"],
    ["2026-03-10T00:00:00Z", 60, "2026-03-10"], ["2026-03-10T00:00:00Z", 59, "00:00:00"], ["2026-03-10T10:00:00Z", 86_400, "2026-03-10"],
    ["2026-03-01T00:00:00Z", 30 * 86_400, "2026-03"], ["2026-01-01T00:00:00Z", 180 * 86_400, "2026-01"], ["2026-01-01T00:00:00Z", 365 * 86_400, "2026"],
  ];
  for (const [time, step, shown] of cases) assert.equal(format.tick(Date.parse(time), step), shown, `${time}, ${step} s`);
}));

test("times are those of the reader's zone, or of the one that is chosen", () => {
  const code = `
    import { moment, tick, time } from "./src/dashboard/page/format.js";
    import { useZone } from "./src/dashboard/page/zones.js";
    const ms = Date.parse("2026-03-10T18:30:00Z");
    const told = ["", "Asia/Kolkata", "UTC"].map((zone) => { useZone(zone); return [time(ms), moment(ms), tick(ms, 3600)].join(", "); });
    console.log(told.join("; "));`;
  const chosen = "00:00:00, 2026-03-11, 2026-03-11; 18:30:00, 2026-03-10, 18:30";
  assert.equal(node(code, { TZ: "Pacific/Kiritimati" }), `08:30:00, 2026-03-11, 08:30; ${chosen}`);
  assert.equal(node(code, { TZ: "America/Los_Angeles" }), `11:30:00, 2026-03-10, 11:30; ${chosen}`);
});

test("numbers and dates look the same in every language", () => {
  const code = `
    import { bytes, count, duration, rate, short, stamp } from "./src/dashboard/page/format.js";
    console.log(count(1234567), rate(1.5), short(1234), duration(1500), bytes(1536), stamp(0), (1.5).toLocaleString());`;
  const same = "1,234,567 1.5 1.23K 1.5 s 1.54 kB 1970-01-01 00:00:00";
  assert.equal(node(code, { LC_ALL: "de_DE.UTF-8" }), `${same} 1,5`);
  assert.equal(node(code, { LC_ALL: "en_US.UTF-8" }), `${same} 1.5`);
});

// What a program prints in an environment of its own.
const node = (code, environment) => {
  const cwd = new URL("../..", import.meta.url);
  const args = ["--input-type=module", "--eval", code];
  return execFileSync(process.execPath, args, { cwd, env: { ...process.env, ...environment }, encoding: "utf8" }).trim();
};

// ---- what is written to the page

test("only what differs is written", () => {
  const writes = [];
  const node = {
    text: "a", attributes: { open: "1" },
    get textContent() { return this.text; },
    set textContent(text) { writes.push(text); this.text = text; },
    getAttribute(name) { return this.attributes[name] ?? null; },
    setAttribute(name, value) { writes.push([name, value]); this.attributes[name] = String(value); },
  };
  assert.equal(format.setText(node, "a"), false);
  assert.equal(format.setText(node, "b"), true);
  format.setAttribute(node, "open", 1);
  format.setAttribute(node, "open", 2);
  format.setAttribute(node, "new", "");
  assert.deepEqual(writes, ["b", ["open", 2], ["new", ""]]);
});

test("text is never markup", (t) => {
  globalThis.document = { createElement: (name) => ({ name }) };
  t.after(() => delete globalThis.document);
  assert.deepEqual(format.element("p", "error", "<b>"), { name: "p", className: "error", textContent: "<b>" });
  assert.deepEqual(format.element("p"), { name: "p" });
});
