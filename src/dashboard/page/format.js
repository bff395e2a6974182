// Numbers and times as people read them, and the few ways in which they are put on the page.

import { now } from "./clock.js";
import { wall, zone } from "./zones.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
// Dates are ISO's, 2026-03-10, as in exports and in what the server says: 3/10 is read as March here and as October there.
// Sweden writes them so. In the zone that times are shown in: a formatter is made once for each, which costs more than what it does.
const iso = (parts) => {
  const made = new Map();
  return {
    format: (ms) => {
      const timeZone = zone();
      if (!made.has(timeZone)) made.set(timeZone, new Intl.DateTimeFormat("sv-SE", { ...parts, timeZone }));
      return made.get(timeZone).format(ms);
    },
  };
};
const clock = iso({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = iso({ hour: "2-digit", minute: "2-digit" });
const date = iso({ year: "numeric", month: "2-digit", day: "2-digit" });

export const NONE = "–";

export const count = (value) => (typeof value === "number" ? whole.format(value) : NONE);

// "1 video", "2 videos".
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

export const rate = (value) => {
  if (typeof value !== "number") return NONE;
  return value >= 100 || value === 0 ? whole.format(value) : fine.format(value);
};

export const short = (value) => compact.format(value);

// A share of 1 in per cent; what is there but small is not told as nothing.
export const share = (value) => {
  if (typeof value !== "number") return NONE;
  if (value > 0 && value < 0.0001) return "<0.01 %";
  return `${(value * 100).toFixed(value < 0.01 ? 2 : 1)} %`;
};

// What became of `before`: a sign, so that it is not told by colour alone.
export const change = (now, before) => {
  if (typeof before !== "number" || typeof now !== "number") return NONE;
  if (before === 0) return now === 0 ? "0 %" : "new";
  const part = now / before - 1;
  if (part >= 10) return `×${short(now / before)}`;
  const text = Math.abs(part * 100).toFixed(Math.abs(part) < 0.1 ? 1 : 0);
  // Too little to be told has no sign.
  if (Number(text) === 0) return "0 %";
  return `${part > 0 ? "+" : part < 0 ? "−" : ""}${text} %`;
};

// The same as the end of a sentence; where `before` is not known, since when plays are.
export const against = (now, before, period, knownFrom) => {
  if (typeof before !== "number") return typeof knownFrom === "number" ? `; plays are known only since ${dateTime(knownFrom)}` : "";
  return before === 0 ? `, none in ${period}` : `, ${change(now, before)} against ${period}`;
};

const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]];

// A minute and more: the two largest units, as people say it. `model/words.rs` has the same for what the server says.
const lasting = (ms) => {
  const seconds = Math.floor(ms / 1000) * 1000;
  const at = UNITS.findIndex(([, size]) => seconds >= size);
  const [[large, size], [small, part]] = UNITS.slice(at, at + 2);
  const rest = Math.floor((seconds % size) / part);
  return `${whole.format(Math.floor(seconds / size))} ${large}${rest > 0 ? ` ${rest} ${small}` : ""}`;
};

// A duration in ms, in the unit that suits it.
export const duration = (ms) => {
  if (typeof ms !== "number") return NONE;
  if (ms === 0) return "0 ms";
  const size = Math.abs(ms);
  if (size < 1) return `${fine.format(ms * 1000)} µs`;
  if (size < 1000) return `${fine.format(ms)} ms`;
  // What would be rounded to 60 s is a minute.
  if (size < 59_950) return `${fine.format(ms / 1000)} s`;
  return `${ms < 0 ? "-" : ""}${lasting(Math.max(size, 60_000))}`;
};

// How long something has been so, roughly: in the largest unit, of which there are 2 at least.
export const age = (ms) => {
  const [unit, size] = UNITS.find(([, size]) => ms >= 2 * size) ?? UNITS.at(-1);
  return `${whole.format(Math.max(0, Math.floor(ms / size)))} ${unit}`;
};

export const bytes = (value) => {
  if (typeof value !== "number") return NONE;
  const unit = value < 1e3 ? 0 : value < 1e6 ? 1 : value < 1e9 ? 2 : 3;
  return `${fine.format(value / 1000 ** unit)} ${["B", "kB", "MB", "GB"][unit]}`;
};

export const time = (ms) => clock.format(ms);

export const isToday = (ms) => date.format(ms) === date.format(now());

// The time of today, the date of other days.
export const moment = (ms) => {
  if (typeof ms !== "number") return NONE;
  return isToday(ms) ? clock.format(ms) : date.format(ms);
};

export const dateTime = (ms) => `${date.format(ms)} ${minute.format(ms)}`;
// To the second: for lists of what happened.
export const stamp = (ms) => `${date.format(ms)} ${clock.format(ms)}`;

const DAY = 86_400;

// The label of a tick at `ms` where ticks are `step` seconds apart: what changes from one to the next.
export const tick = (ms, step) => {
  // Years and months are not all as long.
  const parts = step >= 360 * DAY ? 4 : step >= 28 * DAY ? 7 : 10;
  if (step >= DAY) return date.format(ms).slice(0, parts);
  if (step >= 60 && wall(ms) % (DAY * 1000) < 60_000) return date.format(ms);
  return step >= 60 ? minute.format(ms) : clock.format(ms);
};

export const byId = (id) => document.getElementById(id);

// Writes only what differs: an untouched node keeps its selection and paints nothing.
export const setText = (node, text) => {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
};

// The same of sentences in which commands and names stand between backticks.
export const setWords = (node, text) => {
  const parts = text.split("`");
  if (node.textContent === parts.join("")) return;
  node.replaceChildren(...parts.map((part, index) => (index % 2 === 1 ? element("code", "", part) : part)));
};

// A number on a tile, as large as it fits.
export const setFigure = (node, text) => {
  if (setText(node, text)) node.style.setProperty("--chars", Math.max(text.length, 6));
};

export const setAttribute = (node, name, value) => {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
};

// An element with text in it; never markup.
export const element = (name, className = "", text = "") => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

// An SVG element; drawn with attributes, since the page allows no inline style.
export const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
};
