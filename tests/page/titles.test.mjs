// What a video is called, and where it is: src/dashboard/page/titles.js and changed.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { changes } from "../../src/dashboard/page/changed.js";
import { addressOf, setTemplate, sought } from "../../src/dashboard/page/titles.js";

test("a video is where it says, else by the template, and nowhere but at http", () => {
  const at = (video_id, url) => addressOf({ video_id, url });
  assert.equal(at("a"), "");
  setTemplate("https://example.org/watch/{id}?again={id}");
  const cases = [
    ["a", null, "https://example.org/watch/a?again=a"], ["a", "http://b/c", "http://b/c"],
    ["a/../b?c#d&e", undefined, "https://example.org/watch/a%2F..%2Fb%3Fc%23d%26e?again=a%2F..%2Fb%3Fc%23d%26e"],
    ["$&$1 é", null, "https://example.org/watch/%24%26%241%20%C3%A9?again=%24%26%241%20%C3%A9"],
    ["a", "javascript:alert(1)", ""], ["a", "JAVASCRIPT:alert(1)", ""], ["a", "data:text/html,x", ""], ["a", "/b", ""], ["a", " ", ""],
  ];
  for (const [id, url, expected] of cases) assert.equal(at(id, url), expected, `${id} ${url}`);
  setTemplate(null);
  assert.equal(at("a", null), "");
});

test("the id is taken out of a pasted address, by the template or by what is usual", () => {
  const cases = [
    ["", "https://example.org/watch?v=dQw4w9WgXc", "dQw4w9WgXc"], ["", "https://example.org/watch?t=10&v=-dQw&list=x", "-dQw"],
    ["", "HTTPS://example.org/videos/a%2Fb?utm=x#t=3", "a/b"], ["", "http://example.org/embed/17/", "17"], ["", "https://example.org/play?id=7", "7"],
    ["https://example.org/watch/{id}", "https://example.org/watch/a%2Fb?t=1", "a/b"],
    ["https://example.org/watch/{id}", "https://example.org/watch/x/y", "x/y"],
    ["https://example.org/{id}/play", "https://example.org/rice/play?v=no", "rice"],
    ["https://example.org/{id}/play", "https://example.org/rice#here", "rice"],
    ["https://example.org/?again={id}&x={id}", "https://example.org/?again=%24%26&x=%24%26", "$&"],
    // What is no address, and addresses in which no id is.
    ["", "rice v=1", "rice v=1"], ["", "a/../b?v=1", "a/../b?v=1"], ["", "https://example.org/", "https://example.org/"], ["", "https://", "https://"],
    ["", "https://example.org/%E0%A4%A", "%E0%A4%A"], ["", "https://[", "https://["],
  ];
  for (const [template, text, expected] of cases) {
    setTemplate(template);
    assert.equal(sought(text), expected, `${template} ${text}`);
  }
  setTemplate(null);
});

test("what is changed of a video is told with its reason", () => {
  const at = new Date(2020, 0, 2, 3, 4, 5).getTime();
  const video = { visibility: "shown", reason: null, at: null, correction: null, counted: 1234 };
  const told = (more) => changes({ ...video, ...more });
  assert.deepEqual(told({}), []);
  assert.deepEqual(told({ visibility: "hidden", reason: "rights", at }), ["Hidden since 2020-01-02: rights. Its plays stay in the totals."]);
  assert.deepEqual(told({ visibility: "deleted", at }), ["Deleted since 2020-01-02. Its plays are in no total."]);
  assert.deepEqual(told({ correction: { plays: -500, reason: "bots", at } }), ["Corrected by −500 plays since 2020-01-02: bots. Counted: 1,234."]);
  assert.equal(told({ visibility: "hidden", at, correction: { plays: 1, reason: "x", at } }).length, 2);
});
