// What is said of ledgers: src/dashboard/page/ledgers.js.

import assert from "node:assert/strict";
import { test } from "node:test";

const ledgers = await import("../../src/dashboard/page/ledgers.js");

const table = (name, show, cases) => test(name, () => {
  for (const [args, expected] of cases) assert.deepEqual(show(args), expected, `${name}(${JSON.stringify(args)})`);
});

const files = { kind: "files", name: "", shared_by: 1, state: null };
const db = { kind: "postgres", name: "db:5432/plays", shared_by: 3, state: "alive", lease_ms_left: 12_000, away: null, behind: null };

table("lease", ledgers.lease, [[12_000, "12 s left"], [0, "ran out 0 ms ago"], [-90_000, "ran out 1 min 30 s ago"], [null, "–"], [undefined, "–"]]);

table("ledgerText", ledgers.ledgerText, [
  [null, "–"], [undefined, "–"], [files, "its own files"], [db, "PostgreSQL db:5432/plays, shared by 3 processors"],
  [{ ...db, shared_by: 1 }, "PostgreSQL db:5432/plays, used by 1 processor"], [{ ...db, shared_by: 0 }, "PostgreSQL db:5432/plays"],
  // What a newer dashboard may know.
  [{ ...db, kind: "other", name: "", shared_by: 1 }, "other, used by 1 processor"],
]);

table("ledgerState", ledgers.ledgerState, [
  [{ state: "alive" }, "counts"], [{ state: "published", published_by: "p2" }, "dead; p2 publishes what it counted"],
  [{ state: "done" }, "gone; all that it counted is published"], [{ state: "dead" }, "dead; nobody publishes what it counted"], [{ state: null }, ""],
]);

table("ledgerTrouble", ledgers.ledgerTrouble, [
  [null, ""], [files, ""], [db, ""], [{ ...db, away: "refused", away_for_ms: 5000 }, "Its ledger cannot be used for 5 s: refused"],
  [{ ...db, away: "refused" }, "Its ledger cannot be used: refused"], [{ ...db, behind: "record 7 is gone" }, "Its ledger has lost commits: record 7 is gone"],
]);

table("ledgerLine", ledgers.ledgerLine, [
  [null, ""], [files, ""], [db, "lease: 12 s left"],
  [{ ...db, commit_ms_p50: 1.25, commit_ms_p99: 20 }, "lease: 12 s left; commits p50 / p99: 1.25 ms / 20 ms"],
  [{ ...db, state: "published", published_by: "p2", lease_ms_left: -5000 }, "dead; p2 publishes what it counted"],
]);

test("ledgerRows", () => {
  const one = { processor: "p1", state: "dead", published_by: null, lease_ms_left: -3000, plays: 1234, last_record: 7, untold: 2, epoch: 3, reports: false };
  const processors = [one, { ...one, untold: null, reports: true }, { ...one, state: "published", published_by: "p2" }, { ...one, state: "done" }, { ...one, state: "alive", lease_ms_left: 5000 }];
  assert.deepEqual(ledgers.ledgerRows({ processors }).map(({ cells }) => cells), [
    ["p1", "dead", "ran out 3 s ago", "nobody", "1,234", "7", "2", "3", "no"],
    ["p1", "dead", "ran out 3 s ago", "nobody", "1,234", "7", "–", "3", "yes"],
    ["p1", "dead", "ran out 3 s ago", "p2", "1,234", "7", "2", "3", "no"],
    ["p1", "gone", "ran out 3 s ago", "all is published", "1,234", "7", "2", "3", "no"],
    ["p1", "counts", "5 s left", "itself", "1,234", "7", "2", "3", "no"],
  ]);
});
