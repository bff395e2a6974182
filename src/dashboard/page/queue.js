// Queue and health: what holds plays up, the nsqds with their channels and consumers, the processors' sums, and the few
// things that may be done to the queue. Text goes in as text, never as markup.

import { label } from "./alarm.js";
import { now } from "./clock.js";
import { bytes, count, duration, element, rate, setAttribute, setText, stamp, time } from "./format.js";
import { ledgerName, ledgerRows } from "./ledgers.js";

// How often the dashboard is asked. It asks the nsqds every second, but nobody reads so many numbers so fast.
const ASK_MS = 2000;
// How often the dashboard asks an nsqlookupd.
const LOOKUPD_MS = 5000;

const ACTIONS = [
  ["pause", "Pause: consumers get nothing until it is unpaused"],
  ["unpause", "Unpause"],
  ["empty", "Empty: throw its messages away"],
  ["delete", "Delete it with its messages"],
];
const TOMBSTONE = ["tombstone", "Tombstone: nsqlookupd hides this nsqd for a while from those who ask for the topic"];
const CREATE = ["create", "Create a topic, or a channel of a topic"];

// How long ago; processors and nsqds are heard every second or two.
export const ago = (ms) => (ms < 3000 ? "now" : `${duration(ms)} ago`);

// When a processor was heard, or how it has ended.
const heard = ({ ended, silent_ms: silent }) => (ended ? `${ended.how} ${ago(silent)}` : ago(silent));

// Why a processor asks an nsqd for nothing.
const PAUSES = {
  backoff: "in backoff", others_turn: "waits for its turn", max_in_flight: "holds as many as it may", timed_out: "messages timed out",
  stopping: "stops",
};

// How long something is there, in the two largest units.
export const span = (seconds) => {
  const units = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(0, units.findIndex(([size]) => seconds >= size));
  let rest = Math.max(0, Math.floor(seconds));
  const parts = units.slice(seconds < 1 ? 3 : first).map(([size, unit]) => {
    const number = Math.floor(rest / size);
    rest -= number * size;
    return [number, unit];
  });
  return parts.slice(0, 2).filter(([number], place) => place === 0 || number > 0).map(([number, unit]) => `${number} ${unit}`).join(" ");
};

// What a consumer's bytes go through; nsqd takes them in this order.
export const transport = ({ tls, snappy, deflate }) =>
  [tls && "TLS", snappy && "snappy", deflate && "deflate"].filter(Boolean).join(", ") || "plain";

const pushButton = (text, label, onClick) => {
  const button = element("button", "", text);
  button.type = "button";
  if (label) button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
};

const newTokenField = (required) => {
  const field = element("input");
  field.type = "password";
  field.autocomplete = "off";
  field.required = required;
  return field;
};

const newError = () => {
  const error = element("p", "error");
  error.setAttribute("role", "alert");
  error.hidden = true;
  return error;
};

const labelled = (text, control) => {
  const label = element("label", "field");
  label.append(element("span", "", text), control);
  return label;
};

// A table with a caption whose rows are used again: focus and selection stay while numbers change.
class Grid {
  // `columns`: [title, is it a number].
  constructor(caption, columns) {
    this.columns = columns;
    this.table = element("table", "sheet");
    this.table.append(element("caption", "visually-hidden", caption));
    const head = this.table.createTHead().insertRow();
    for (const [title, isNumber] of columns) {
      const cell = element("th", isNumber ? "number" : "", title);
      cell.scope = "col";
      head.append(cell);
    }
    this.body = this.table.createTBody();
    this.box = element("div", "sideways");
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "region");
    this.box.setAttribute("aria-label", caption);
    this.box.append(this.table);
  }

  // `rows`: { key, cells: texts, button? }.
  show(rows) {
    const known = new Map([...this.body.rows].map((row) => [row.dataset.key, row]));
    rows.forEach(({ key, cells, button }, place) => {
      let row = known.get(key);
      known.delete(key);
      if (!row) {
        row = element("tr");
        row.dataset.key = key;
        this.columns.forEach(([, isNumber], index) => {
          const cell = element(index === 0 ? "th" : "td", isNumber ? "number" : "");
          if (index === 0) cell.scope = "row";
          row.append(cell);
        });
        if (button) row.lastElementChild.append(button());
      }
      if (this.body.rows[place] !== row) this.body.insertBefore(row, this.body.rows[place] ?? null);
      cells.forEach((text, index) => setText(row.cells[index], text));
    });
    known.forEach((row) => row.remove());
  }
}

const CHANNEL_COLUMNS = [
  ["Topic / channel"], ["Waiting", true], ["On disk", true], ["In flight", true], ["Deferred", true], ["Requeued", true],
  ["Timed out", true], ["In/s", true], ["Out/s", true], ["Consumers", true], ["State"],
];
const CONSUMER_COLUMNS = [
  ["Consumer"], ["Channel"], ["Program"], ["RDY", true], ["In flight", true], ["Finished", true], ["Requeued", true],
  ["Connected for", true], ["Transport"], ["State"],
];
// A ledger's bytes, and what a crash had left unfinished in it.
const ledgerSize = (ledger) => {
  if (!ledger) return "–";
  return ledger.cut_bytes ? `${bytes(ledger.bytes)}, ${bytes(ledger.cut_bytes)} cut off at its start` : bytes(ledger.bytes);
};

const PROCESSOR_COLUMNS = [
  ["Processor"], ["Received", true], ["= Counted", true], ["+ Duplicates", true], ["+ Rejected", true],
  ["+ In flight", true], ["Adds up"], ["A second", true], ["p99", true], ["Heard"], ["Version"], ["Ledger", true], ["Slowest commit", true],
  ["To sweep", true],
];
const LEDGER_COLUMNS = [
  ["Processor"], ["State"], ["Lease"], ["Who publishes"], ["Plays counted", true], ["Newest commit", true], ["Commits not told", true], ["Taken over", true], ["Reports here"],
];
const PRODUCER_COLUMNS = [["Producer"], ["Plays in its outbox", true], ["Heard"]];
const CONNECTION_COLUMNS = [
  ["From"], ["Processor"], ["State"], ["RDY", true], ["In flight", true], ["Reconnects", true], ["Last error"],
];
const LOOKUPD_COLUMNS = [["nsqlookupd"], ["State"], ["nsqds that it names", true], ["Heard"]];
const TOTAL_COLUMNS = [CHANNEL_COLUMNS[0], ["nsqds", true], ...CHANNEL_COLUMNS.slice(1)];
const AUDIT_COLUMNS = [["When"], ["Who"], ["What"], ["On"], ["Outcome"]];

export const nameOf = ({ topic_name: topic, channel_name: channel }) => (channel ? `${topic}/${channel}` : topic);

// What is shown of a topic, or of a channel, at one nsqd or over all.
const figures = (one, state) => {
  const ofChannel = (text) => (one.channel_name ? text : "");
  return [
    count(one.depth), count(one.backend_depth), ofChannel(count(one.in_flight_count)), ofChannel(count(one.deferred_count)),
    ofChannel(count(one.requeue_count)), ofChannel(count(one.timeout_count)), rate(one.rate_in), ofChannel(rate(one.rate_out)),
    ofChannel(count(one.client_count)), state,
  ];
};

// The quantiles that an nsqd measures from published to finished: with --e2e-processing-latency-percentile.
const latencies = (one) => one.e2e_processing_latency?.percentiles ?? [];
export const quantiles = (topics) => {
  const measured = topics.flatMap((topic) => [topic, ...topic.channels]).flatMap(latencies);
  return [...new Set(measured.map(({ quantile }) => quantile))].sort((one, other) => one - other);
};

class Nsqd {
  constructor({ onTouch, onPeek }) {
    Object.assign(this, { onTouch, onPeek });
    this.box = element("section", "card");
    this.title = element("h3");
    this.error = element("p", "error");
    this.error.hidden = true;
    this.channels = this.grid([]);
    this.consumers = new Grid("Consumers", CONSUMER_COLUMNS);
    this.details = element("details");
    this.details.append(element("summary", "", "Consumers"), this.consumers.box);
    this.create = pushButton("Create…", "", () => this.onTouch({ nsqd: this.address }));
    const head = element("div", "card-head");
    head.append(this.title, this.create);
    this.box.append(head, this.error, this.channels.box, this.details);
  }

  grid(measured) {
    this.measured = measured;
    const more = measured.map((quantile) => [`p${Number((quantile * 100).toFixed(3))}`, true]);
    const grid = new Grid("Topics and channels", [...CHANNEL_COLUMNS, ...more, ["Action"]]);
    grid.table.classList.add("touched");
    return grid;
  }

  show(nsqd) {
    const measured = quantiles(nsqd.topics ?? []);
    if (String(measured) !== String(this.measured)) {
      const before = this.channels.box;
      this.channels = this.grid(measured);
      before.replaceWith(this.channels.box);
    }
    this.address = nsqd.address;
    setAttribute(this.create, "aria-label", `Create a topic or channel at ${nsqd.address}`);
    setText(this.title, `nsqd ${nsqd.address}${nsqd.version ? `, version ${nsqd.version}` : ""}`);
    this.error.hidden = !nsqd.error;
    const heard = nsqd.heard_at ? `; the numbers are ${duration(Math.max(0, now() - nsqd.heard_at))} old` : "";
    setText(this.error, nsqd.error ? `It does not answer: ${nsqd.error}${heard}` : "");
    const rows = [];
    const consumers = [];
    const add = (one, topic) => {
      const name = nameOf(one);
      const target = { nsqd: nsqd.address, topic, channel: one.channel_name ?? null, name };
      const button = () => {
        const buttons = element("span", "tools");
        buttons.append(pushButton("Choose", `Choose an action for ${name}`, () => this.onTouch(target)));
        if (!one.channel_name) buttons.append(pushButton("Peek", `Peek at the messages of ${name}`, () => this.onPeek(target)));
        return buttons;
      };
      const times = measured.map((quantile) => latencies(one).find((known) => known.quantile === quantile)?.value / 1e6);
      // nsqd tells 0 of what it has not measured.
      const shown = times.map((ms) => (ms > 0 ? duration(ms) : "–"));
      rows.push({ key: name, cells: [name, ...figures(one, one.paused ? "paused" : "open"), ...shown], button });
    };
    for (const topic of nsqd.topics ?? []) {
      add(topic, topic.topic_name);
      for (const channel of topic.channels) {
        const whole = { ...channel, topic_name: topic.topic_name };
        add(whole, topic.topic_name);
        for (const client of channel.clients ?? []) {
          consumers.push({
            key: `${nameOf(whole)} ${client.remote_address}`,
            cells: [
              `${client.hostname || client.client_id} ${client.remote_address}`, nameOf(whole), client.user_agent, count(client.ready_count),
              count(client.in_flight_count), count(client.finish_count), count(client.requeue_count),
              span(now() / 1000 - client.connect_ts), transport(client),
              client.state === 4 ? "closing" : client.ready_count === 0 ? "asks for nothing" : "ready",
            ],
          });
        }
      }
    }
    this.channels.show(rows);
    this.consumers.show(consumers);
    setText(this.details.firstElementChild, `Consumers (${consumers.length})`);
  }
}

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

// Asks what to do, for the name once more, and for the token.
class Dialog {
  constructor({ fetchJson, writeToken, onDone }) {
    this.dialog = element("dialog", "card");
    this.form = element("form");
    this.title = element("h3");
    this.title.id = "touch-title";
    this.dialog.setAttribute("aria-labelledby", this.title.id);
    this.action = element("select");
    this.topic = element("input");
    this.channel = element("input");
    for (const field of [this.topic, this.channel]) {
      field.autocomplete = "off";
      field.spellcheck = false;
      field.maxLength = 64;
      field.addEventListener("input", () => this.name());
    }
    this.made = element("div");
    this.made.append(labelled("Topic", this.topic), labelled("Channel (leave it empty to create only the topic)", this.channel));
    this.confirm = element("input");
    this.confirm.autocomplete = "off";
    this.confirm.spellcheck = false;
    this.confirm.required = true;
    this.token = newTokenField(true);
    this.error = newError();
    this.label = labelled("", this.confirm);
    const buttons = element("p", "tools");
    const cancel = pushButton("Cancel", "", () => this.dialog.close());
    const go = element("button", "danger", "Do it");
    buttons.append(cancel, go);
    this.form.append(this.title, labelled("What to do", this.action), this.made, this.label, labelled("Write token", this.token), this.error, buttons);
    this.dialog.append(this.form);
    this.form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      this.error.hidden = true;
      const { nsqd, topic, channel } = this.named();
      try {
        await fetchJson("api/queue", {
          method: "POST",
          headers: { Authorization: `Bearer ${this.token.value}` },
          body: JSON.stringify({ action: this.action.value, nsqd, topic, channel, confirm: this.confirm.value }),
        });
        writeToken.set(this.token.value);
        this.dialog.close();
        onDone();
      } catch (error) {
        setText(this.error, error.message);
        this.error.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
    this.writeToken = writeToken;
  }

  // What it is done to; of something new, what is typed.
  named() {
    if (this.target.name) return this.target;
    const [topic, channel] = [this.topic.value.trim(), this.channel.value.trim() || null];
    return { ...this.target, topic, channel, name: channel ? `${topic}/${channel}` : topic };
  }

  name() {
    setText(this.label.firstElementChild, `Type ${this.named().name || "its name"} to confirm`);
  }

  // Without a name: something new is to be created.
  open(target, tombstones) {
    this.target = target;
    const isNew = !target.name;
    setText(this.title, isNew ? `Create at ${target.nsqd}` : `${target.name} at ${target.nsqd}`);
    const actions = isNew ? [CREATE] : tombstones && !target.channel ? [...ACTIONS, TOMBSTONE] : ACTIONS;
    this.action.replaceChildren(...actions.map(([name, text]) => new Option(text, name)));
    this.made.hidden = !isNew;
    this.topic.required = isNew;
    [this.topic.value, this.channel.value] = ["", ""];
    this.name();
    this.confirm.value = "";
    this.token.value = this.writeToken.get();
    this.error.hidden = true;
    this.dialog.showModal();
  }
}

const MESSAGE_COLUMNS = [["Published"], ["Attempts", true], ["Id"], ["Bytes", true], ["Body"]];

// Shows the messages of a topic that pass by while it asks.
class PeekDialog {
  constructor({ fetchJson, writeToken }) {
    this.dialog = element("dialog", "card wide");
    const form = element("form");
    this.title = element("h3");
    this.title.id = "peek-title";
    this.dialog.setAttribute("aria-labelledby", this.title.id);
    const note = element("p", "note", "Shows what is published from now on, for up to three seconds. Every channel still gets these messages. The attempts shown are those of this peek.");
    this.limit = element("select");
    ["1", "5", "10", "20"].forEach((number) => this.limit.append(new Option(number, number)));
    this.limit.value = "10";
    this.token = newTokenField(false);
    this.error = newError();
    this.said = element("p", "note");
    this.said.setAttribute("role", "status");
    this.messages = new Grid("Messages", MESSAGE_COLUMNS);
    const buttons = element("p", "tools");
    const go = element("button", "", "Peek");
    buttons.append(pushButton("Close", "", () => this.dialog.close()), go);
    form.append(this.title, note, labelled("At most", this.limit), labelled("Write token, where there is one", this.token), this.error, this.said, this.messages.box, buttons);
    this.dialog.append(form);
    this.writeToken = writeToken;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { nsqd, topic } = this.target;
      go.disabled = true;
      this.error.hidden = true;
      this.messages.show([]);
      setText(this.said, "Waiting for messages…");
      const token = this.token.value;
      try {
        const answer = await fetchJson("api/queue/peek", {
          method: "POST",
          headers: token ? { Authorization: `Bearer ${token}` } : {},
          body: JSON.stringify({ nsqd, topic, limit: Number(this.limit.value) }),
        });
        if (token) writeToken.set(token);
        this.show(answer);
      } catch (error) {
        setText(this.said, "");
        setText(this.error, error.message);
        this.error.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
  }

  show({ messages, waited_ms: waited }) {
    this.messages.box.hidden = messages.length === 0;
    const number = messages.length === 0 ? "No message" : messages.length === 1 ? "1 message" : `${messages.length} messages`;
    setText(this.said, `${number} in ${duration(waited)}.`);
    this.messages.show(messages.map(({ id, published_at: at, attempts, body, bytes: size }) => ({
      key: id,
      cells: [time(at), count(attempts), id, count(size), body],
    })));
  }

  open(target) {
    this.target = target;
    setText(this.title, `Peek at ${target.name} at ${target.nsqd}`);
    this.token.value = this.writeToken.get();
    this.error.hidden = true;
    this.messages.box.hidden = true;
    setText(this.said, "");
    this.dialog.showModal();
  }
}

export const mount = (root, { fetchJson, writeToken }) => {
  const card = (title, ...parts) => {
    const box = element("section", "card");
    box.append(element("h3", "", title), ...parts);
    return box;
  };
  const findings = element("ul", "findings");
  const trouble = newError();
  const nsqds = element("div", "nsqds");
  const none = element("p", "empty", "No nsqd is watched: start the dashboard with --nsqd-http-address or --lookupd-http-address.");
  none.hidden = true;
  const lookupds = new Grid("nsqlookupds", LOOKUPD_COLUMNS);
  const leftOut = element("p", "note");
  const discovery = card("Where the nsqds are found", lookupds.box, leftOut);
  const totals = new Grid("Over all nsqds", TOTAL_COLUMNS);
  const sums = card("Over all nsqds that answer", totals.box);
  const processors = new Grid("Processors", PROCESSOR_COLUMNS);
  const ledgers = element("div", "nsqds");
  const connections = new Grid("Processors' connections", CONNECTION_COLUMNS);
  const reached = card("What the processors are connected to", connections.box);
  const producers = new Grid("Producers", PRODUCER_COLUMNS);
  const outboxes = card("Published and not yet confirmed", producers.box);
  const audit = new Grid("Who did what", AUDIT_COLUMNS);
  for (const later of [discovery, sums, reached, outboxes]) later.hidden = true;
  root.append(trouble, card("Why is nothing moving?", findings), discovery, sums, nsqds, none, card("Received = counted + duplicates + rejected + in flight", processors.box), ledgers, reached, outboxes, card("Who did what", audit.box));

  const known = new Map();
  let lookupdsKnown = false;
  const showFindings = (list) => {
    while (findings.children.length > list.length) findings.lastElementChild.remove();
    list.forEach(({ code, severity, text, way_out: wayOut }, index) => {
      const item = findings.children[index] ?? findings.appendChild(element("li"));
      if (!item.firstElementChild) item.append(element("strong"), " ", element("span"), " ", element("span", "way-out"));
      if (item.dataset.severity !== severity) item.dataset.severity = severity;
      setText(item.children[0], label(code, severity));
      setText(item.children[1], text);
      setText(item.children[2], wayOut);
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
        const view = new Nsqd({ onTouch: (target) => dialog.open(target, lookupdsKnown), onPeek: (target) => peek.open(target) });
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
      return { key: nameOf(one), cells: [nameOf(one), count(one.nsqds), ...figures(one, state)] };
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
      const [diagnosis, queue, told, touched] = await Promise.all(
        ["api/diagnosis", "api/queue", "api/processors", "api/audit"].map((path) => fetchJson(path)),
      );
      trouble.hidden = true;
      showFindings(diagnosis.findings);
      showLookupds(queue);
      showTotals(queue);
      showNsqds(queue.nsqds);
      processors.show(told.processors.map((one) => ({
        key: one.processor,
        cells: [
          one.processor, count(one.received), count(one.counted), count(one.duplicates), count(one.rejected), count(one.in_flight),
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
      audit.show(touched.audit.map(({ at, peer, action, target, outcome }) => ({
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
  ask();
  setInterval(ask, ASK_MS);
};
