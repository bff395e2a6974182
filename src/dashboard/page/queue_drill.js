// One topic, one channel, or one nsqd: the sums over the nsqds, each of them, and who consumes. What is looked at stands in
// the address.

import { now } from "./clock.js";
import { count, element, rate, setText, stamp } from "./format.js";
import { card, Grid, pushButton } from "./queue_grid.js";
import { Nsqd } from "./queue_nsqd.js";
import { consumerState, span, stateOf, transport } from "./queue_words.js";

// What is added up over the nsqds.
const SUMMED = [
  "depth", "backend_depth", "in_flight_count", "deferred_count", "requeue_count", "timeout_count", "message_count", "client_count",
  "rate_in", "rate_out",
];

// The sums of those, with how many they are and how many of them are paused.
export const sumUp = (list) => {
  const sums = Object.fromEntries(SUMMED.map((name) => [name, list.reduce((sum, one) => sum + (one[name] ?? 0), 0)]));
  return { ...sums, nsqds: list.length, paused: list.filter(({ paused }) => paused).length };
};

// What /api/queue tells of a topic, or of a channel of it, at one nsqd or (without `nsqd`) at all that answer: `rows` with
// the figures at each, `total`, the topic's `channels` summed, the channel's `clients`, and the nsqds that do not answer.
export const gather = ({ nsqds }, { topic, channel, nsqd }) => {
  const asked = nsqds.filter(({ address }) => !nsqd || address === nsqd);
  const rows = asked.filter(({ error }) => !error).flatMap(({ address, topics }) => {
    const known = (topics ?? []).find((one) => one.topic_name === topic);
    const one = channel ? known?.channels.find((two) => two.channel_name === channel) : known;
    return one ? [{ address, one }] : [];
  });
  const names = channel ? [] : [...new Set(rows.flatMap(({ one }) => one.channels.map((two) => two.channel_name)))];
  const channels = names.map((name) => {
    const parts = rows.flatMap(({ one }) => one.channels.filter((two) => two.channel_name === name));
    return { channel_name: name, ...sumUp(parts) };
  });
  const clients = channel ? rows.flatMap(({ address, one }) => (one.clients ?? []).map((client) => ({ address, client }))) : [];
  return { rows, total: sumUp(rows.map(({ one }) => one)), channels, clients, away: asked.filter(({ error }) => error) };
};

// "paused" only where it is so everywhere.
const overAll = ({ paused, nsqds }) => (paused === 0 ? "open" : paused === nsqds ? "paused" : `paused at ${paused} of ${nsqds}`);

const FIGURES = [["Waiting", true], ["In memory", true], ["On disk", true]];
const OF_CHANNEL = [["In flight", true], ["Deferred", true], ["Requeued", true], ["Timed out", true]];
const MOVING = [["Messages", true], ["In/s", true]];
const OF_CHANNEL_TOO = [["Out/s", true], ["Consumers", true]];
const CHANNEL_FIGURES = [...FIGURES, ...OF_CHANNEL, ...MOVING, ...OF_CHANNEL_TOO];
const CLIENT_COLUMNS = [
  ["Host"], ["Address"], ["Client id"], ["Program", "words"], ["nsqd"], ["RDY", true], ["In flight", true], ["Finished", true], ["Requeued", true],
  ["Messages", true], ["Connected since"], ["For", true], ["Transport"], ["State"],
];

const base = (one) => [count(one.depth), count(one.depth - one.backend_depth), count(one.backend_depth)];
const moving = (one) => [count(one.message_count), rate(one.rate_in)];
const ofChannel = (one) => [
  ...base(one), count(one.in_flight_count), count(one.deferred_count), count(one.requeue_count), count(one.timeout_count), ...moving(one),
  rate(one.rate_out), count(one.client_count),
];
const ofTopic = (one) => [...base(one), ...moving(one)];

// Names and values side by side; nodes are used again.
class Facts {
  constructor() {
    this.list = element("dl", "facts");
  }

  show(pairs) {
    while (this.list.children.length > pairs.length) this.list.lastElementChild.remove();
    pairs.forEach(([name, value], index) => {
      const pair = this.list.children[index] ?? this.list.appendChild(element("div"));
      if (!pair.firstElementChild) pair.append(element("dt"), element("dd"));
      setText(pair.firstElementChild, name);
      setText(pair.lastElementChild, value);
    });
  }
}

export class Drill {
  // `link`: the address of a place; `onTouch`, `onPeek`: what is done to a topic or channel.
  constructor({ link, onTouch, onPeek }) {
    Object.assign(this, { link, onTouch, place: {} });
    this.box = element("div", "cards");
    this.box.id = "queue-drill";
    this.crumbs = element("nav", "crumbs");
    this.crumbs.setAttribute("aria-label", "Place in the queue");
    this.title = element("h3");
    this.title.tabIndex = -1;
    this.facts = new Facts();
    this.said = element("p", "note");
    const head = element("section", "card");
    head.append(this.crumbs, this.title, this.facts.list, this.said);
    this.grids = {
      topic: new Grid("The topic at each nsqd", [["nsqd"], ...FIGURES, ...MOVING, ["State"], ["Action"]]),
      channels: new Grid("Channels of the topic", [["Channel"], ...CHANNEL_FIGURES, ["State"]]),
      channel: new Grid("The channel at each nsqd", [["nsqd"], ...CHANNEL_FIGURES, ["State"], ["Action"]]),
      clients: new Grid("Consumers of the channel", CLIENT_COLUMNS),
    };
    for (const name of ["topic", "channel"]) this.grids[name].table.classList.add("touched");
    this.left = element("p", "note");
    this.cards = {
      channels: card("Channels", this.grids.channels.box),
      topic: card("At each nsqd", this.grids.topic.box),
      channel: card("At each nsqd", this.grids.channel.box),
      clients: card("Consumers", this.grids.clients.box, this.left),
    };
    this.nsqd = new Nsqd({ link, onTouch, onPeek });
    this.box.append(head, ...Object.values(this.cards), this.nsqd.box);
  }

  // Another place: what stood there before must not stand under its name.
  go(place) {
    this.place = place;
    const { topic, channel, nsqd } = place;
    const steps = [["Queue", {}], ...(topic ? [[`Topic ${topic}`, { topic }]] : []), ...(channel ? [[`Channel ${channel}`, { topic, channel }]] : [])];
    if (nsqd) steps.push([`nsqd ${nsqd}`, place]);
    this.crumbs.replaceChildren(...steps.flatMap(([text, where], index) => {
      const step = element(index < steps.length - 1 ? "a" : "span", "", text);
      if (index < steps.length - 1) {
        step.dataset.inside = "";
        step.href = this.link(where);
      } else {
        step.setAttribute("aria-current", "page");
      }
      return index === 0 ? [step] : [" / ", step];
    }));
    const name = channel ? `Channel ${topic}/${channel}` : topic ? `Topic ${topic}` : "";
    setText(this.title, !name ? `nsqd ${nsqd}` : `${name} ${nsqd ? `at nsqd ${nsqd}` : "over all nsqds"}`);
    this.facts.show([]);
    setText(this.said, "");
    Object.values(this.grids).forEach((grid) => grid.show([]));
    Object.values(this.cards).forEach((box) => (box.hidden = true));
    this.nsqd.box.hidden = true;
  }

  show(queue) {
    if (this.place.topic) this.showTopic(queue);
    else this.showNsqd(queue);
  }

  showNsqd({ nsqds }) {
    const known = nsqds.find(({ address }) => address === this.place.nsqd);
    this.nsqd.box.hidden = !known;
    if (!known) {
      this.facts.show([]);
      return setText(this.said, `No nsqd ${this.place.nsqd} is watched. Go back to the queue to see which are.`);
    }
    this.nsqd.show(known);
    setText(this.said, "");
    const told = (value) => value || "not told yet";
    this.facts.show([
      ["HTTP", known.address],
      ["TCP", known.tcp_port ? `${known.broadcast_address}:${known.tcp_port}` : "not told yet"],
      ["Host", told(known.hostname)], ["Version", told(known.version)], ["Health", known.error ? "does not answer" : told(known.health)],
      ["Up for", known.start_time && !known.error ? span(now() / 1000 - known.start_time) : "not known"],
      ["Named by", known.found_by.length > 0 ? known.found_by.join(", ") : "the command line"],
      ["Topics", count(known.topics?.length)],
    ]);
  }

  showTopic(queue) {
    const { topic, channel, nsqd } = this.place;
    const { rows, total, channels, clients, away } = gather(queue, this.place);
    const kind = channel ? "channel" : "topic";
    const lost = away.map(({ address, error }) => `nsqd ${address} does not answer, so its figures are left out: ${error}`);
    const none = rows.length === 0 ? [`No nsqd that answers has ${channel ? `a channel ${channel} of topic ${topic}` : `a topic ${topic}`}.`] : [];
    setText(this.said, [...none, ...lost].join(" "));
    const queued = [
      ["Messages in total", count(total.message_count)], ["Waiting", count(total.depth)], ["In memory", count(total.depth - total.backend_depth)],
      ["On disk", count(total.backend_depth)],
    ];
    const moves = channel ? [
      ["In flight", count(total.in_flight_count)], ["Deferred", count(total.deferred_count)], ["Requeued", count(total.requeue_count)],
      ["Timed out", count(total.timeout_count)], ["In a second", rate(total.rate_in)], ["Out a second", rate(total.rate_out)],
      ["Consumers", count(total.client_count)],
    ] : [["In a second", rate(total.rate_in)], ["Channels", count(channels.length)]];
    this.facts.show(none.length > 0 ? [] : [...queued, ...moves, ["State", overAll(total)], ["nsqds", count(total.nsqds)]]);
    this.showRows(kind, rows);
    this.cards[kind].hidden = rows.length === 0;
    this.cards.channels.hidden = Boolean(channel) || rows.length === 0;
    this.grids.channels.show(channels.map((one) => ({
      key: one.channel_name,
      cells: [{ text: one.channel_name, href: this.link({ topic, channel: one.channel_name, nsqd: nsqd ?? "" }) }, ...ofChannel(one), overAll(one)],
    })));
    this.cards.clients.hidden = !channel || rows.length === 0;
    this.showClients(clients, total.client_count);
  }

  showRows(kind, rows) {
    const { topic, channel } = this.place;
    this.grids[kind].show(rows.map(({ address, one }) => {
      const name = channel ? `${topic}/${channel}` : topic;
      const target = { nsqd: address, topic, channel: channel || null, name };
      const button = () => pushButton("Choose", `Choose an action for ${name} at ${address}`, () => this.onTouch(target));
      const cells = kind === "channel" ? ofChannel(one) : ofTopic(one);
      return { key: address, cells: [{ text: address, href: this.link({ topic, channel: channel ?? "", nsqd: address }) }, ...cells, stateOf(one)], button };
    }));
  }

  showClients(clients, number) {
    this.grids.clients.show(clients.map(({ address, client }) => ({
      key: `${address} ${client.remote_address}`,
      cells: [
        client.hostname || "–", client.remote_address, client.client_id, client.user_agent || "–", address, count(client.ready_count),
        count(client.in_flight_count), count(client.finish_count), count(client.requeue_count), count(client.message_count), stamp(client.connect_ts * 1000),
        span(now() / 1000 - client.connect_ts), transport(client), consumerState(client),
      ],
    })));
    const more = number - clients.length;
    this.left.hidden = clients.length > 0 && more <= 0;
    setText(this.left, clients.length === 0 ? "No consumer is connected." : `${count(more)} more are connected and not listed.`);
  }
}
