// Numbers and times as people read them. No element is touched here but through setText.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat([], { year: "numeric", month: "short", day: "numeric" });

export const NONE = "–";

export const count = (value) => (typeof value === "number" ? whole.format(value) : NONE);

export const rate = (value) => {
  if (typeof value !== "number") return NONE;
  return value >= 100 || value === 0 ? whole.format(value) : fine.format(value);
};

export const short = (value) => compact.format(value);

// A duration in ms, in the unit that suits it.
export const duration = (ms) => {
  if (typeof ms !== "number") return NONE;
  if (ms === 0) return "0 ms";
  const size = Math.abs(ms);
  if (size < 1) return `${fine.format(ms * 1000)} µs`;
  if (size < 1000) return `${fine.format(ms)} ms`;
  if (size < 120_000) return `${fine.format(ms / 1000)} s`;
  return `${fine.format(ms / 60_000)} min`;
};

// The time of today, the date of other days.
export const moment = (ms) => {
  if (typeof ms !== "number") return NONE;
  const date = new Date(ms);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : day.format(date);
};

// Writes only what differs: an untouched node keeps its selection and paints nothing.
export const setText = (node, text) => {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
};

// An element with text in it; never markup.
export const element = (name, className = "", text = "") => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};
