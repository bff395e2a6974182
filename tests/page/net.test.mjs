// Calls to the dashboard, and one video that is followed: src/dashboard/page/net.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fetchJson, Followed } from "../../src/dashboard/page/net.js";

// Answers calls by hand: `calls` has each path with its `answer(status, body)`.
const dashboard = (t) => {
  const calls = [];
  const { fetch } = globalThis;
  globalThis.fetch = (path) => new Promise((resolve) => {
    const answer = (status, body) => {
      resolve(new Response(body, { status }));
      // The readers of the answer have run before the next step.
      return new Promise((done) => setTimeout(done, 0));
    };
    calls.push({ path, answer });
  });
  t.after(() => (globalThis.fetch = fetch));
  return calls;
};

test("an answer is its JSON; a refusal is an error with the dashboard's words", async (t) => {
  const calls = dashboard(t);
  const cases = [
    [200, '{"a":1}', { a: 1 }], [200, "[]", []], [200, "no JSON", {}],
    [400, '{"error":"no such sort"}', ["no such sort", 400]], [503, "<html>", ["the dashboard answered 503", 503]],
    [404, "{}", ["the dashboard answered 404", 404]],
  ];
  for (const [status, body, expected] of cases) {
    const told = fetchJson("api/x").catch(({ message, status }) => [message, status]);
    await calls.at(-1).answer(status, body);
    assert.deepEqual(await told, expected, `${status} ${body}`);
  }
});

test("a dashboard that is away is told in plain words, with a time", async (t) => {
  const { fetch } = globalThis;
  t.after(() => (globalThis.fetch = fetch));
  globalThis.fetch = async () => { throw new TypeError("Failed to fetch"); };
  const read = await fetchJson("api/x").catch(({ message }) => message);
  assert.match(read, /^The dashboard cannot be reached since \d\d:\d\d:\d\d\. The page tries again by itself\.$/);
  const write = await fetchJson("api/x", { method: "POST" }).catch(({ message }) => message);
  assert.match(write, /^The dashboard did not answer, so it is not known whether this was done\./);
  const left = new AbortController();
  left.abort(new Error("left"));
  globalThis.fetch = async (path, { signal }) => signal.throwIfAborted();
  await assert.rejects(fetchJson("api/x", { signal: left.signal }), /^Error: left$/);
});

test("a path is below the page's own, wherever a proxy has put it", async (t) => {
  const calls = dashboard(t);
  for (const path of ["api/x?from=/a", "/api/x?from=/a"]) {
    const told = fetchJson(path);
    await calls.at(-1).answer(200, "{}");
    await told;
  }
  assert.deepEqual(calls.map(({ path }) => path), ["api/x?from=/a", "api/x?from=/a"]);
});

// A `Followed` that tells what it hears, and a clock.
const follow = (t) => {
  const calls = dashboard(t);
  const told = [];
  let ms = 0;
  t.mock.method(performance, "now", () => ms);
  const onVideo = (video) => told.push(video.plays);
  const onError = ({ status }) => told.push(status);
  return { calls, told, followed: new Followed({ onVideo, onError }), pass: (more) => (ms += more) };
};

test("a video is asked for again when counts changed, one call at a time", async (t) => {
  const { calls, told, followed, pass } = follow(t);
  followed.follow("one");
  followed.stats({ revision: 1 });
  assert.equal(calls.length, 1, "one call at a time");
  await calls[0].answer(200, '{"plays":1}');
  pass(900);
  followed.stats({ revision: 2 });
  assert.equal(calls.length, 1, "not that soon");
  pass(200);
  followed.stats({ revision: 2 });
  assert.equal(calls.length, 2);
  await calls[1].answer(200, '{"plays":2}');
  pass(5000);
  followed.stats({ revision: 2 });
  assert.equal(calls.length, 2, "nothing changed");
  assert.deepEqual([calls[0].path, told], ["api/counts/one", [1, 2]]);
});

test("only the video that is followed now is told", async (t) => {
  const { calls, told, followed } = follow(t);
  followed.follow("one");
  followed.follow("two");
  await calls[1].answer(200, '{"plays":2}');
  await calls[0].answer(200, '{"plays":1}');
  followed.follow("three");
  followed.follow("");
  await calls[2].answer(404, "{}");
  assert.deepEqual([calls.length, told], [3, [2]]);
  followed.stats({ revision: 9 });
  assert.equal(calls.length, 3, "none is followed");
});

test("a video without plays is asked for less often", async (t) => {
  const { calls, told, followed, pass } = follow(t);
  followed.follow("one");
  await calls[0].answer(404, "{}");
  pass(9000);
  followed.stats({ revision: 1 });
  assert.equal(calls.length, 1);
  pass(2000);
  followed.stats({ revision: 1 });
  assert.equal(calls.length, 2);
  await calls[1].answer(503, "{}");
  pass(1100);
  followed.stats({ revision: 1 });
  assert.equal(calls.length, 3, "a failed call is made again");
  assert.deepEqual(told, [404, 503]);
});

test("a read that is refused for a moment is asked again; what changes something is not", async (t) => {
  const { fetch } = globalThis;
  t.after(() => (globalThis.fetch = fetch));
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let [asked, refusals] = [0, 2];
  globalThis.fetch = async () => {
    asked += 1;
    const headers = { "Retry-After": "1" };
    return asked <= refusals ? new Response('{"error":"busy"}', { status: 503, headers }) : new Response('{"a":1}');
  };
  const told = async (options) => {
    asked = 0;
    const answer = fetchJson("api/x", options).catch(({ message }) => message);
    for (let second = 0; second < 5; second += 1) {
      await new Promise((done) => setImmediate(done));
      t.mock.timers.tick(1000);
    }
    return [await answer, asked];
  };
  assert.deepEqual(await told(), [{ a: 1 }, 3]);
  refusals = Infinity;
  assert.deepEqual(await told(), ["busy", 4]);
  assert.deepEqual(await told({ method: "POST" }), ["busy", 1]);
});
