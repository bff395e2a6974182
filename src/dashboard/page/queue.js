// Queue and health: what holds plays up, the nsqds with their channels and consumers, the processors' sums, and the few
// things that may be done to the queue. Text goes in as text, never as markup.

import { label } from "./alarm.js";
import { now } from "./clock.js";
import { bytes, count, duration, element, rate, setText, setWords, stamp } from "./format.js";
import { ledgerName, ledgerRows } from "./ledgers.js";
import { Dialog, PeekDialog } from "./queue_dialogs.js";
import { Drill } from "./queue_drill.js";
import { card, Grid, newError } from "./queue_grid.js";
import { Nsqd } from "./queue_nsqd.js";
import { ago, figures, nameOf, TOTAL_COLUMNS } from "./queue_words.js";

// How often the dashboard is asked. It asks the nsqds every second, but nobody reads so many numbers so fast.
const ASK_MS = 2000;
// How often the dashboard asks an nsqlookupd.
const LOOKUPD_MS = 5000;

// When a processor was heard, or how it has ended.
const heard = ({ ended, silent_ms: silent }) => (ended ? `${ended.how} ${ago(silent)}` : ago(silent));

// Why a processor asks an nsqd for nothing.
const PAUSES = {
  backoff: "in backoff", others_turn: "waits for its turn", max_in_flight: "holds as many as it may", timed_out: "messages timed out",
  stopping: "stops",
};

// A ledger's bytes, and what a crash had left unfinished in it.
const ledgerSize = (ledger) => {
  if (!ledger) return "–";
  return ledger.cut_bytes ? `${bytes(ledger.bytes)}, ${bytes(ledger.cut_bytes)} cut off at its start` : bytes(ledger.bytes);
};

const PROCESSOR_COLUMNS = [
  ["Processor", "words"], ["Received", true], ["= Counted", true], ["+ Duplicates", true], ["+ Rejected", true],
  ["+ In flight", true], ["Adds up"], ["A second", true], ["p99", true], ["Heard"], ["Version"], ["Ledger", true], ["Slowest commit", true],
  ["To sweep", true],
];
const LEDGER_COLUMNS = [
  ["Processor", "words"], ["State"], ["Lease"], ["Who publishes"], ["Plays counted", true], ["Newest commit", true], ["Commits not told", true], ["Taken over", true], ["Reports here"],
];
const PRODUCER_COLUMNS = [["Producer"], ["Plays in its outbox", true], ["Heard"]];
const CONNECTION_COLUMNS = [
  ["From"], ["Processor", "words"], ["State"], ["RDY", true], ["In flight", true], ["Reconnects", true], ["Last error", "words"],
];
const LOOKUPD_COLUMNS = [["nsqlookupd"], ["State", "words"], ["nsqds that it names", true], ["Heard"]];
const AUDIT_COLUMNS = [["When"], ["Who"], ["What"], ["On"], ["Outcome", "words"]];

// One shared ledger, and who counts in it.
class SharedLedger {
  constructor() {
    this.processors = new Grid("Processors of the ledger", LEDGER_COLUMNS);
    this.title = element("h3");
    this.said = element("p", "note");
    this.box = element("section", "card");
    this.box.append(this.title, this.processors.box, this.said);
  }

  show(ledger) {
    setText(this.title, `Who shares the ledger ${ledgerName(ledger)}`);
    this.processors.show(ledgerRows(ledger));
    const more = ledger.left_out > 0 ? ` ${count(ledger.left_out)} processors more are left out.` : "";
    setText(this.said, `As processor ${ledger.told_by} has told ${ago(ledger.told_ms_ago)}.${more}`);
  }
}

// Fills `root`; returns what shows the place that an address says: the whole queue, a topic, a channel or an nsqd.
export const mount = (root, { fetchJson, writeToken, state }) => {
  const findings = element("ul", "findings");
  const trouble = newError();
  const nsqds = element("div", "cards nsqds");
  const none = element("p", "empty", "No nsqd is watched: start the dashboard with --nsqd-http-address or --lookupd-http-address.");
  none.hidden = true;
  const lookupds = new Grid("nsqlookupds", LOOKUPD_COLUMNS);
  const leftOut = element("p", "note");
  const discovery = card("Where the nsqds are found", lookupds.box, leftOut);
  const totals = new Grid("Over all nsqds", TOTAL_COLUMNS);
  const sums = card("Over all nsqds that answer", totals.box);
  const processors = new Grid("Processors", PROCESSOR_COLUMNS);
  const ledgers = element("div", "cards");
  const connections = new Grid("Processors' connections", CONNECTION_COLUMNS);
  const reached = card("What the processors are connected to", connections.box);
  const producers = new Grid("Producers", PRODUCER_COLUMNS);
  const outboxes = card("Published and not yet confirmed", producers.box);
  const audit = new Grid("Who did what", AUDIT_COLUMNS);
  for (const later of [discovery, sums, reached, outboxes]) later.hidden = true;
  const link = (place) => state.link({ view: "queue", topic: "", channel: "", nsqd: "", ...place });
  const touched = { link, onTouch: (target) => dialog.open(target, lookupdsKnown), onPeek: (target) => peek.open(target) };
  const drill = new Drill(touched);
  const front = element("div", "cards");
  const why = card("Why is nothing moving?", findings);
  why.firstElementChild.tabIndex = -1;
  front.append(why, discovery, sums, nsqds, none, card("Received = counted + duplicates + rejected + in flight", processors.box), ledgers, reached, outboxes, card("Who did what", audit.box));
  root.append(trouble, front, drill.box);

  // What was rejected can be looked at.
  const rejected = (one) => (one.rejected > 0 ? { text: count(one.rejected), href: state.link({ view: "letters", page: "1" }) } : count(one.rejected));
  const known = new Map();
  let newest = null;
  let lookupdsKnown = false;
  const showFindings = (list) => {
    while (findings.children.length > list.length) findings.lastElementChild.remove();
    list.forEach(({ code, severity, text, way_out: wayOut }, index) => {
      const item = findings.children[index] ?? findings.appendChild(element("li"));
      if (!item.firstElementChild) item.append(element("strong"), " ", element("span"), " ", element("span", "way-out"));
      if (item.dataset.severity !== severity) item.dataset.severity = severity;
      setText(item.children[0], label(code, severity));
      setWords(item.children[1], text);
      setWords(item.children[2], wayOut);
    });
  };
  const showNsqds = (list) => {
    const there = new Set(list.map(({ address }) => address));
    for (const [address, view] of known) {
      if (!there.has(address)) {
        view.box.remove();
        known.delete(address);
      }
    }
    for (const nsqd of list) {
      if (!known.has(nsqd.address)) {
        const view = new Nsqd(touched);
        known.set(nsqd.address, view);
        nsqds.append(view.box);
      }
      known.get(nsqd.address).show(nsqd);
    }
    none.hidden = list.length > 0;
  };
  const shared = [];
  const showLedgers = (list) => {
    while (shared.length < list.length) {
      shared.push(new SharedLedger());
      ledgers.append(shared.at(-1).box);
    }
    while (shared.length > list.length) shared.pop().box.remove();
    list.forEach((ledger, index) => shared[index].show(ledger));
  };
  const showLookupds = (queue) => {
    lookupdsKnown = queue.lookupds.length > 0;
    discovery.hidden = !lookupdsKnown;
    lookupds.show(queue.lookupds.map((one) => ({
      key: one.address,
      cells: [
        one.address, one.answering ? "answers" : one.error ? `does not answer: ${one.error}` : "not asked yet", count(one.nsqds),
        one.heard_at === null ? "never" : ago(Math.max(0, now() - one.heard_at - LOOKUPD_MS)),
      ],
    })));
    leftOut.hidden = queue.left_out === 0;
    setText(leftOut, `${count(queue.left_out)} nsqds more are named than are watched.`);
  };
  const showTotals = (queue) => {
    sums.hidden = queue.nsqds.length < 2;
    totals.show(sums.hidden ? [] : queue.totals.map((one) => {
      const state = one.paused === 0 ? "open" : `paused at ${one.paused} of ${one.nsqds}`;
      const href = link({ topic: one.topic_name, channel: one.channel_name ?? "" });
      return { key: nameOf(one), cells: [{ text: nameOf(one), href }, count(one.nsqds), ...figures(one, state)] };
    }));
  };
  const showConnections = (list) => {
    const rows = list.flatMap(({ processor, consumer }) => {
      if (!consumer) return [];
      const wait = typeof consumer.backoff_ms === "number" ? ` for ${duration(consumer.backoff_ms)}` : "";
      const nsqds = consumer.connections.map((one) => {
        const why = one.pause === "backoff" ? PAUSES.backoff + wait : PAUSES[one.pause];
        const state = one.connected ? ["connected", why].filter(Boolean).join(", ") : "not connected";
        return [`nsqd ${one.nsqd}`, processor, state, count(one.rdy), count(one.in_flight), count(one.reconnects), one.last_error ?? ""];
      });
      const asked = consumer.lookupds.map((one) => [
        `nsqlookupd ${one.lookupd}`, processor, one.answering ? `answers, names ${count(one.nsqds)}` : "does not answer", "", "", "", one.last_error ?? "",
      ]);
      const more = consumer.left_out > 0 ? [[`${count(consumer.left_out)} more`, processor, "", "", "", "", ""]] : [];
      return [...nsqds, ...asked, ...more];
    });
    reached.hidden = rows.length === 0;
    connections.show(rows.map((cells) => ({ key: `${cells[1]} ${cells[0]}`, cells })));
  };
  const refresh = async () => {
    try {
      const [diagnosis, queue, told, { audit: actions }] = await Promise.all(
        ["api/diagnosis", "api/queue", "api/processors", "api/audit"].map((path) => fetchJson(path)),
      );
      trouble.hidden = true;
      showFindings(diagnosis.findings);
      showLookupds(queue);
      showTotals(queue);
      showNsqds(queue.nsqds);
      newest = queue;
      if (!drill.box.hidden) drill.show(queue);
      processors.show(told.processors.map((one) => ({
        key: one.processor,
        cells: [
          one.processor, count(one.received), count(one.counted), count(one.duplicates), rejected(one), count(one.in_flight),
          one.adds_up === null ? "–" : one.adds_up ? "yes" : "no", rate(one.per_second), one.p99_ms === null ? "–" : duration(one.p99_ms),
          heard(one), one.program ?? "–", one.counts_in?.kind === "files" ? ledgerSize(one.ledger) : ledgerName(one.counts_in) || "–",
          one.ledger ? duration(one.ledger.slowest_ms) : "–", one.ledger ? count(one.ledger.unswept) : "–",
        ],
      })));
      showLedgers(told.ledgers);
      showConnections(told.processors);
      outboxes.hidden = told.producers.length === 0;
      producers.show(told.producers.map((one) => ({
        key: one.producer,
        cells: [one.producer, count(one.outbox), ago(one.silent_ms)],
      })));
      audit.show(actions.map(({ at, peer, action, target, outcome }) => ({
        key: `${at} ${peer} ${action} ${outcome}`,
        cells: [stamp(at), peer, action, target, outcome],
      })));
    } catch (error) {
      setText(trouble, error.message);
      trouble.hidden = false;
    }
  };
  const dialog = new Dialog({ fetchJson, writeToken, onDone: refresh });
  const peek = new PeekDialog({ fetchJson, writeToken });
  root.append(dialog.dialog, peek.dialog);

  let asking = false;
  const ask = async () => {
    if (asking || document.hidden || root.closest("[hidden]")) return;
    asking = true;
    await refresh();
    asking = false;
  };
  setInterval(ask, ASK_MS);

  let there = null;
  return ({ topic, channel, nsqd }) => {
    const place = JSON.stringify([topic, channel, nsqd]);
    if (place !== there) {
      const moved = there !== null;
      there = place;
      drill.box.hidden = !topic && !nsqd;
      front.hidden = !drill.box.hidden;
      if (!drill.box.hidden) {
        drill.go({ topic, channel, nsqd });
        if (newest) drill.show(newest);
      }
      if (moved) {
        scrollTo(0, 0);
        // A screen reader hears where it has come to.
        (front.hidden ? drill.title : why.firstElementChild).focus({ preventScroll: true });
      }
    }
    ask();
  };
};
