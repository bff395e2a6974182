// What is notified, and why there may be none: src/dashboard/page/notify.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { news, obstacle, words } from "../../src/dashboard/page/notify.js";

const paused = { name: "channel-paused", since: 5, text: "It is paused.", way_out: "Unpause it." };
const deep = { name: "depth-alert", since: 6, text: "9 messages wait.", way_out: "" };
const known = (...alarms) => Object.fromEntries(alarms.map(({ name, since, text }) => [name, { since, text }]));

test("what begins and what ends is news, and what goes on is none", () => {
  for (const [told, alarms, begun, ended] of [
    [known(), [], [], []],
    [known(), [paused, deep], [paused, deep], []],
    [known(paused), [paused], [], []],
    [known(paused, deep), [deep], [], ["It is paused."]],
    // It ended and began again while nobody looked.
    [known(paused), [{ ...paused, since: 7 }], [{ ...paused, since: 7 }], []],
  ]) assert.deepEqual(news(told, alarms), { begun, ended });
});

test("one notification tells all of it", () => {
  assert.deepEqual(words({ begun: [paused, deep], ended: ["It was full."] }, "h:1"), {
    title: "⚠ playcounts at h:1", body: "It is paused. Unpause it.\n9 messages wait.\nOver: It was full.",
  });
  assert.deepEqual(words({ begun: [], ended: ["It was full."] }, "h:1"), { title: "playcounts at h:1: over", body: "Over: It was full." });
});

test("why there can be none is said", () => {
  const allowed = { permission: "default" };
  assert.equal(obstacle({ isSecureContext: true, Notification: allowed }), "");
  assert.match(obstacle({ isSecureContext: false, Notification: allowed }), /only over HTTPS/);
  assert.match(obstacle({ isSecureContext: true }), /has no notifications/);
  assert.match(obstacle({ isSecureContext: true, Notification: { permission: "denied" } }), /blocks/);
});
