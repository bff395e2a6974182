// The dashboard's time, as the page has it: from what it tells, not from the browser's clock.

import assert from "node:assert/strict";
import { test } from "node:test";

const { hear, hearDate, now } = await import("../../src/dashboard/page/clock.js");

test("the dashboard's time goes on from what was heard, whatever the browser's clock says", (t) => {
  let ticks = 1000;
  t.mock.method(performance, "now", () => ticks);
  t.mock.method(Date, "now", () => 5);
  assert.equal(now(), 5);
  hearDate("no date");
  hearDate(null);
  assert.equal(now(), 5);
  hearDate("Tue, 10 Mar 2026 10:20:30 GMT");
  const told = Date.parse("2026-03-10T10:20:30Z");
  assert.equal(now(), told);
  // An event knows the ms; then no Date is asked again.
  hear(told + 700);
  hearDate("Tue, 10 Mar 2026 10:20:30 GMT");
  assert.equal(now(), told + 700);
  ticks += 60_000;
  assert.equal(now(), told + 60_700);
  // A late message moves it a little, an early one to where it is.
  hear(told + 58_700);
  assert.equal(now(), told + 60_680);
  hear(told + 60_690);
  assert.equal(now(), told + 60_690);
  // The clock was set back.
  hear(told);
  assert.equal(now(), told);
});
