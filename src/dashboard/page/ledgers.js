// What is said of ledgers, in words: which it is, who shares it, and who publishes for whom.

import { count, duration, many } from "./format.js";

const KINDS = { files: "its own files", postgres: "PostgreSQL" };

// A lease, as how much of it is left or since when it has run out.
export const lease = (ms) => {
  if (typeof ms !== "number") return "–";
  return ms > 0 ? `${duration(ms)} left` : `ran out ${duration(-ms)} ago`;
};

// Which ledger a processor counts in; "" while that is not known.
export const ledgerName = (ledger) => {
  if (!ledger) return "";
  if (ledger.kind === "files") return KINDS.files;
  return [KINDS[ledger.kind] ?? ledger.kind, ledger.name].filter(Boolean).join(" ");
};

// The same, and how many share it.
export const ledgerText = (ledger) => {
  if (!ledger) return "–";
  if (ledger.kind === "files") return ledgerName(ledger);
  const shared = ledger.shared_by > 1 ? `shared by ${many(ledger.shared_by, "processor")}` : ledger.shared_by === 1 ? "used by 1 processor" : "";
  return [ledgerName(ledger), shared].filter(Boolean).join(", ");
};

// What a processor of a shared ledger does, as the ledger knows it.
export const ledgerState = ({ state, published_by: by }) => {
  if (state === "alive") return "counts";
  if (state === "published") return `dead; ${by} publishes what it counted`;
  if (state === "done") return "gone; all that it counted is published";
  if (state === "dead") return "dead; nobody publishes what it counted";
  return "";
};

// What is wrong between a processor and its ledger; "" if nothing is.
export const ledgerTrouble = (ledger) => {
  if (!ledger) return "";
  const wait = typeof ledger.away_for_ms === "number" ? ` for ${duration(ledger.away_for_ms)}` : "";
  if (ledger.away) return `Its ledger cannot be used${wait}: ${ledger.away}`;
  return ledger.behind ? `Its ledger has lost commits: ${ledger.behind}` : "";
};

// A line under a processor of the overview; "" where there is nothing to say.
export const ledgerLine = (ledger) => {
  if (!ledger || ledger.kind === "files") return "";
  const state = ledger.state && ledger.state !== "alive" ? ledgerState(ledger) : "";
  const left = ledger.state === "alive" && typeof ledger.lease_ms_left === "number" ? `lease: ${lease(ledger.lease_ms_left)}` : "";
  const commits = typeof ledger.commit_ms_p50 === "number" ? `commits p50 / p99: ${duration(ledger.commit_ms_p50)} / ${duration(ledger.commit_ms_p99)}` : "";
  return [state, left, commits].filter(Boolean).join("; ");
};

// The same in a table, which has a column for who publishes.
const STATES = { alive: "counts", published: "dead", done: "gone", dead: "dead" };
const PUBLISHERS = { alive: "itself", done: "all is published", dead: "nobody" };

// The rows of the table of one shared ledger, as the queue's view has its columns.
export const ledgerRows = (ledger) => ledger.processors.map((one) => ({
  key: one.processor,
  cells: [
    one.processor, STATES[one.state] ?? one.state, lease(one.lease_ms_left), PUBLISHERS[one.state] ?? one.published_by ?? "–",
    count(one.plays), count(one.last_record),
    typeof one.untold === "number" ? count(one.untold) : "–", count(one.epoch), one.reports ? "yes" : "no",
  ],
}));
