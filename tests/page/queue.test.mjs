// What the queue's pages add up, and the words above the dead letters.

import assert from "node:assert/strict";
import { test } from "node:test";

import { summary } from "../../src/dashboard/page/letters.js";
import { gather, sumUp } from "../../src/dashboard/page/queue_drill.js";
import { consumerState, ports } from "../../src/dashboard/page/queue_words.js";

const client = { remote_address: "c:1" };
const channel = (name, depth, more = {}) => ({ channel_name: name, depth, backend_depth: 1, client_count: 2, rate_out: 0.5, paused: false, ...more });
const topic = (name, depth, channels) => ({ topic_name: name, depth, backend_depth: 0, message_count: 10, rate_in: 1.5, paused: false, channels });
const queue = {
  nsqds: [
    { address: "a", error: null, topics: [topic("plays", 1, [channel("p", 5, { clients: [client] }), channel("q", 7)])] },
    { address: "b", error: null, topics: [topic("plays", 2, [channel("p", 6, { paused: true })]), topic("other", 9, [])] },
    // Its figures are old.
    { address: "c", error: "refused", topics: [topic("plays", 100, [channel("p", 100)])] },
    { address: "d", error: null },
  ],
};

test("sums, with how many are paused", () => {
  assert.deepEqual(
    sumUp([{ depth: 1, message_count: 2, paused: true }, { depth: 3, rate_in: 0.5 }]),
    {
      depth: 4, backend_depth: 0, in_flight_count: 0, deferred_count: 0, requeue_count: 0, timeout_count: 0, message_count: 2, client_count: 0,
      rate_in: 0.5, rate_out: 0, nsqds: 2, paused: 1,
    },
  );
  assert.equal(sumUp([]).nsqds, 0);
});

test("a topic over all nsqds that answer, a channel, and each at one nsqd", () => {
  const told = (place) => {
    const { rows, total, channels, clients, away } = gather(queue, place);
    return {
      at: rows.map(({ address }) => address).join(), depth: total.depth, messages: total.message_count, paused: total.paused,
      channels: channels.map(({ channel_name: name, depth, nsqds }) => `${name} ${depth} ${nsqds}`).join(), clients: clients.length,
      away: away.map(({ address }) => address).join(),
    };
  };
  const cases = [
    [{ topic: "plays" }, { at: "a,b", depth: 3, messages: 20, paused: 0, channels: "p 11 2,q 7 1", clients: 0, away: "c" }],
    [{ topic: "plays", nsqd: "b" }, { at: "b", depth: 2, messages: 10, paused: 0, channels: "p 6 1", clients: 0, away: "" }],
    [{ topic: "plays", channel: "p" }, { at: "a,b", depth: 11, messages: 0, paused: 1, channels: "", clients: 1, away: "c" }],
    [{ topic: "plays", channel: "p", nsqd: "c" }, { at: "", depth: 0, messages: 0, paused: 0, channels: "", clients: 0, away: "c" }],
    [{ topic: "nowhere" }, { at: "", depth: 0, messages: 0, paused: 0, channels: "", clients: 0, away: "c" }],
    [{ topic: "plays", channel: "nowhere" }, { at: "", depth: 0, messages: 0, paused: 0, channels: "", clients: 0, away: "c" }],
  ];
  for (const [place, expected] of cases) assert.deepEqual(told(place), expected, JSON.stringify(place));
});

test("words for consumers and ports", () => {
  assert.equal(consumerState({ state: 3, ready_count: 5 }), "ready");
  assert.equal(consumerState({ state: 3, ready_count: 0 }), "asks for nothing");
  assert.equal(consumerState({ state: 4, ready_count: 5 }), "closing");
  assert.equal(ports({ address: "a:4151", tcp_port: 4150 }), "a:4151 (HTTP), TCP port 4150");
  assert.equal(ports({ address: "a:4151" }), "a:4151 (HTTP)");
});

test("how many were rejected, and how many of them are shown", () => {
  const cases = [
    [{ matching: 0, rejected: 0 }, 0, 0, "No message was rejected since the processors' start."],
    [{ matching: 0, rejected: 3 }, 0, 0, "3 messages rejected since the processors' start; no processor has told of one."],
    [{ matching: 1, rejected: 1 }, 0, 1, "1 message rejected since the processors' start; 1 to 1 of the newest 1."],
    [{ matching: 40, rejected: 1234 }, 20, 20, "1,234 messages rejected since the processors' start; 21 to 40 of the newest 40."],
    [{ matching: 20, rejected: 20 }, 40, 0, "20 messages rejected since the processors' start; there are no more pages."],
  ];
  for (const [answer, offset, shown, expected] of cases) assert.equal(summary(answer, offset, shown), expected);
});
