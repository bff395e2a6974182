// One call at a time for what is asked for again and again.

import assert from "node:assert/strict";
import { test } from "node:test";

const { Asked } = await import("../../src/dashboard/page/asked.js");

// Calls that wait until the test answers them.
const waiting = () => {
  const calls = [];
  const ask = (path, { signal }) => new Promise((answer, fail) => {
    calls.push({ path, answer, fail, signal });
    signal.addEventListener("abort", () => fail(signal.reason));
  });
  return { calls, asked: new Asked(ask) };
};

test("a question under way is not asked again, and its answer is taken however late it is", async () => {
  const { calls, asked } = waiting();
  const first = asked.get("30m", "a?since=1");
  assert.equal(await asked.get("30m", "a?since=2"), null);
  assert.equal(calls.length, 1);
  calls[0].answer({ time: [1] });
  assert.deepEqual(await first, { time: [1] });
  const second = asked.get("30m", "a?since=3");
  calls[1].answer({ time: [2] });
  assert.deepEqual(await second, { time: [2] });
});

test("another question ends the one before, which tells nothing more", async () => {
  const { calls, asked } = waiting();
  const first = asked.get("7d", "a");
  const second = asked.get("30d", "b");
  assert.equal(calls[0].signal.aborted, true);
  assert.equal(await first, null);
  // The first one's end has not ended the second.
  assert.equal(await asked.get("30d", "b"), null);
  calls[1].answer("b");
  assert.equal(await second, "b");
});

test("an error is told once, and the next call is made", async () => {
  const { calls, asked } = waiting();
  const first = asked.get("7d", "a");
  calls[0].fail(new Error("away"));
  await assert.rejects(first, /away/);
  const second = asked.get("7d", "a");
  calls[1].answer("a");
  assert.equal(await second, "a");
});

test("a dead link is given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { asked } = waiting();
  const first = asked.get("7d", "a");
  t.mock.timers.tick(120_000);
  await assert.rejects(first, /no answer within 120 s/);
});
