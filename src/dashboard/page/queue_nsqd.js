// One nsqd: its topics and channels with what may be done to them, and its consumers.

import { now } from "./clock.js";
import { count, duration, element, setAttribute, setText } from "./format.js";
import { Grid, pushButton } from "./queue_grid.js";
import { CHANNEL_COLUMNS, consumerState, figures, latencies, nameOf, ports, quantiles, span, stateOf, transport } from "./queue_words.js";

const CONSUMER_COLUMNS = [
  ["Consumer"], ["Channel"], ["Program", "words"], ["RDY", true], ["In flight", true], ["Finished", true], ["Requeued", true],
  ["Connected for", true], ["Transport"], ["State"],
];

export class Nsqd {
  // `link`: the address of the page of a topic, of a channel or of this nsqd.
  constructor({ onTouch, onPeek, link }) {
    Object.assign(this, { onTouch, onPeek, link });
    this.box = element("section", "card");
    this.title = element("h3");
    this.title.append(element("a"));
    this.title.firstElementChild.dataset.inside = "";
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
    setText(this.title.firstElementChild, `nsqd ${ports(nsqd)}${nsqd.version ? `, version ${nsqd.version}` : ""}`);
    setAttribute(this.title.firstElementChild, "href", this.link({ nsqd: nsqd.address }));
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
      const href = this.link({ topic, channel: one.channel_name ?? "", nsqd: nsqd.address });
      rows.push({ key: name, cells: [{ text: name, href }, ...figures(one, stateOf(one)), ...shown], button });
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
              consumerState(client),
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
