// Which videos are compared, which are favourites, and how much a video has moved.

import assert from "node:assert/strict";
import { test } from "node:test";

import { chosenIn, chosenText, toggled } from "../../src/dashboard/page/chosen.js";
import { idsIn } from "../../src/dashboard/page/favourites.js";
import { marksOf } from "../../src/dashboard/page/marks.js";
import { moved } from "../../src/dashboard/page/movers.js";

test("what is chosen comes back from the address, each once and at most five", () => {
  for (const ids of [[], ["a"], ["a,b", "c d", "é/?&#%"], ["1", "2", "3", "4", "5"]]) assert.deepEqual(chosenIn(chosenText(ids)), ids);
  assert.deepEqual(chosenIn("a,,b,a"), ["a", "b"]);
  assert.deepEqual(chosenIn("1,2,3,4,5,6"), ["1", "2", "3", "4", "5"]);
  assert.deepEqual(chosenIn("%E0%A4%A,a"), ["a"]);
});

test("one is added, or taken away; there is no sixth", () => {
  assert.equal(toggled("", "a,b"), "a%2Cb");
  assert.equal(toggled("a%2Cb,c", "a,b"), "c");
  assert.equal(toggled("1,2,3,4,5", "6"), "1,2,3,4,5");
  assert.equal(toggled("1,2,3,4,5", "5"), "1,2,3,4");
});

test("favourites are what is stored, if it is that", () => {
  const cases = [
    [null, []], ["[]", []], ['["a","b","a"]', ["a", "b"]], ["{}", []], ["no JSON", []], ['[1,null,"","a"]', ["a"]],
    [JSON.stringify(["x".repeat(129), "y"]), ["y"]],
  ];
  for (const [text, expected] of cases) assert.deepEqual(idsIn(text), expected, text);
  assert.equal(idsIn(JSON.stringify(Array.from({ length: 50 }, (_, n) => `v${n}`))).length, 20);
});

test("what happened is told once, in the order of time", () => {
  const audit = [
    { at: 50, action: "reset", target: "counts", outcome: "done" },
    { at: 40, action: "pause", target: "a:1 plays", outcome: "done" }, { at: 39, action: "pause", target: "a:1 plays", outcome: "asked" },
    { at: 30, action: "pause", target: "b:1 plays", outcome: "cannot reach it" }, { at: 20, action: "peek", target: "a:1 plays", outcome: "done" },
    { at: 10, action: "import", target: "x old.csv", outcome: "begun" }, { at: 9, action: "constructor", target: "", outcome: "done" },
  ];
  const processors = [{ processor: "p", ended: null }, { processor: "q", ended: { how: "stopped", at: 45 } }];
  assert.deepEqual(marksOf({ started: 5, audit, processors }).map(({ at, text }) => `${at} ${text}`), [
    "5 Dashboard started", "10 Import x old.csv", "40 a:1 plays paused", "45 Processor q was stopped", "50 Counts reset",
  ]);
  assert.deepEqual(marksOf({ started: undefined, audit: [], processors: [] }), []);
});

test("a change has its sign", () => {
  assert.equal(moved({ plays: 1500, before: 0 }), "+1,500");
  assert.equal(moved({ plays: 0, before: 1500 }), "−1,500");
  assert.equal(moved({ plays: 3, before: 3 }), "±0");
});
