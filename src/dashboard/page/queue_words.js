// Words for what nsqds tell of topics, channels and consumers (pure).

import { count, duration, rate } from "./format.js";

// How long ago; processors and nsqds are heard every second or two.
export const ago = (ms) => (ms < 3000 ? "now" : `${duration(ms)} ago`);

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

export const CHANNEL_COLUMNS = [
  ["Topic / channel"], ["Waiting", true], ["On disk", true], ["In flight", true], ["Deferred", true], ["Requeued", true],
  ["Timed out", true], ["Messages", true], ["In/s", true], ["Out/s", true], ["Consumers", true], ["State"],
];
export const TOTAL_COLUMNS = [CHANNEL_COLUMNS[0], ["nsqds", true], ...CHANNEL_COLUMNS.slice(1)];

export const nameOf = ({ topic_name: topic, channel_name: channel }) => (channel ? `${topic}/${channel}` : topic);

// What is shown of a topic, or of a channel, at one nsqd or over all.
export const figures = (one, state) => {
  const ofChannel = (text) => (one.channel_name ? text : "");
  return [
    count(one.depth), count(one.backend_depth), ofChannel(count(one.in_flight_count)), ofChannel(count(one.deferred_count)),
    ofChannel(count(one.requeue_count)), ofChannel(count(one.timeout_count)), count(one.message_count), rate(one.rate_in), ofChannel(rate(one.rate_out)),
    ofChannel(count(one.client_count)), state,
  ];
};

// The quantiles that an nsqd measures from published to finished: with --e2e-processing-latency-percentile.
export const latencies = (one) => one.e2e_processing_latency?.percentiles ?? [];
export const quantiles = (topics) => {
  const measured = topics.flatMap((topic) => [topic, ...topic.channels]).flatMap(latencies);
  return [...new Set(measured.map(({ quantile }) => quantile))].sort((one, other) => one - other);
};

export const stateOf = ({ paused }) => (paused ? "paused" : "open");

// What a consumer does.
export const consumerState = ({ state, ready_count: ready }) => (state === 4 ? "closing" : ready === 0 ? "asks for nothing" : "ready");

// Where an nsqd is reached: the port that the dashboard asks is that of HTTP.
export const ports = ({ address, tcp_port: tcp }) => (tcp ? `${address} (HTTP), TCP port ${tcp}` : `${address} (HTTP)`);
