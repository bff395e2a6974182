// Listens to /events and puts what it says on the page. Text goes in as text, never as markup.

import { Charts } from "./charts.js";
import { count, duration, element, rate, setText } from "./format.js";
import { Table } from "./table.js";

// An event comes every second; after this long without one the numbers are called stale.
const STALE_MS = 4000;
// A hole in the points of more than one and a half seconds is filled from /api/series.
const HOLE_MS = 1500;

const byId = (id) => document.getElementById(id);
const charts = new Charts(byId("chart-rate"), byId("chart-time"));
const table = new Table();
let heard = 0;
let filling = false;

const json = async (path) => {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response.json();
};

const showBadge = () => {
  const age = performance.now() - heard;
  const state = heard === 0 ? "connecting" : age > STALE_MS ? "stale" : "live";
  const badge = byId("live");
  if (badge.dataset.state !== state) badge.dataset.state = state;
  setText(byId("live-text"), state === "stale" ? `stale for ${count(age / 1000)} s` : state);
};

const showStats = (stats) => {
  setText(byId("total-plays"), count(stats.total_plays));
  // From 100 plays on a video is published by interval only, so the processors may be ahead.
  const counted = stats.processors.reduce((sum, { consumption }) => sum + (consumption?.counted ?? 0), 0);
  setText(byId("total-more"), counted > stats.total_plays ? `published, of ${count(counted)} counted` : "published");
  setText(byId("total-videos"), count(stats.total_videos));
  setText(byId("rate"), rate(stats.messages_per_second));
  const times = stats.consumption;
  setText(byId("consumption"), duration(times.average_ms));
  setText(byId("consumption-more"), typeof times.p99_ms === "number" ? `mean; p99 ${duration(times.p99_ms)}` : "mean since start");
  const queue = stats.queue;
  setText(byId("depth"), count(queue?.depth));
  setText(byId("depth-more"), stats.queue_error ?? (queue ? `${count(queue.in_flight)} in flight, ${count(queue.deferred)} deferred` : "not known"));
  showProcessors(stats.processors);
};

const FIGURES = [
  ["Received", (told) => count(told.received)],
  ["Counted", (told) => count(told.counted)],
  ["Duplicates", (told) => count(told.duplicates)],
  ["Rejected", (told) => count(told.rejected)],
  ["Rate", (told) => `${rate(told.per_second)}/s`],
  ["Consumption p50 / p99 / max", (told) => [told.since_start?.p50, told.since_start?.p99, told.since_start?.max].map(duration).join(" / ")],
];

const newProcessor = (id) => {
  const box = element("article", "processor");
  box.dataset.processor = id;
  const title = element("h3");
  title.append(element("code", "", id), element("span", "heard"));
  const pairs = element("dl", "pairs");
  FIGURES.forEach(([name]) => pairs.append(element("dt", "", name), element("dd")));
  const rejection = element("p", "rejection");
  rejection.hidden = true;
  box.append(title, pairs, rejection);
  return box;
};

const showProcessors = (processors) => {
  const list = byId("processors");
  byId("no-processors").hidden = processors.length > 0;
  const known = new Map([...list.children].map((box) => [box.dataset.processor, box]));
  for (const { processor, consumption, heard_ms_ago: ago } of processors) {
    const box = known.get(processor) ?? list.appendChild(newProcessor(processor));
    known.delete(processor);
    setText(box.querySelector(".heard"), ago < STALE_MS ? "reporting" : `silent for ${duration(ago)}`);
    box.querySelectorAll("dd").forEach((cell, index) => setText(cell, consumption ? FIGURES[index][1](consumption) : "–"));
    const rejection = box.querySelector(".rejection");
    const trouble = consumption?.failure
      ? `Counting has stopped: ${consumption.failure}`
      : consumption?.last_rejection && `Last rejected: ${consumption.last_rejection}`;
    rejection.hidden = !trouble;
    setText(rejection, trouble || "");
  }
  known.forEach((box) => box.remove());
};

const configured = (value) => {
  if (typeof value === "number") return value.toLocaleString("en");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};

const showConfiguration = (pairs) => {
  const list = byId("configuration");
  byId("no-configuration").hidden = Array.isArray(pairs) && pairs.length > 0;
  if (!Array.isArray(pairs)) return;
  list.replaceChildren(...pairs.flatMap(({ name, value }) => [
    element("dt", "", String(name)),
    element("dd", "", configured(value)),
  ]));
};

const fillCharts = async () => {
  if (filling) return;
  filling = true;
  try {
    charts.append(await json(`/api/series?since=${charts.last}`));
  } catch {
    // The badge tells; the next event tries again.
  } finally {
    filling = false;
  }
};

const showPoint = (point) => {
  if (!point) return;
  if (point.time - charts.last > HOLE_MS) {
    fillCharts();
  } else if (point.time > charts.last && !filling) {
    const row = Object.fromEntries(Object.entries(point).map(([name, value]) => [name, [value]]));
    charts.append(row);
  }
};

const start = async () => {
  try {
    const stats = await json("/api/stats");
    showConfiguration(stats.configuration);
    showStats(stats);
  } catch {
    // The first event brings the same numbers.
  }
  await Promise.all([fillCharts(), table.move(0)]);
  const events = new EventSource("/events");
  events.addEventListener("stats", (event) => {
    heard = performance.now();
    const { stats, point } = JSON.parse(event.data);
    showStats(stats);
    showPoint(point);
    table.refresh(stats.revision);
    showBadge();
  });
  setInterval(showBadge, 1000);
  document.addEventListener("visibilitychange", () => table.refresh(-2));
};

start();
