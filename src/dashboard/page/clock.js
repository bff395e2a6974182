// The time of day at the dashboard. The browser's clock may be wrong, and every time that the dashboard tells is by its own.

// The dashboard's ms less this page's own, which no change of a clock moves; null before it has told the time.
let ahead = null;

// So much earlier than expected is no late message: the dashboard's clock was set back.
const SET_BACK_MS = 5000;
// A message may be late and is never early, so the latest time counts; but slowly less, as two clocks do not run alike.
const EASE = 100;

// The dashboard said just now that it is `ms`.
export const hear = (ms) => {
  const heard = ms - performance.now();
  const late = ahead === null ? 0 : ahead - heard;
  ahead = late > 0 && late < SET_BACK_MS ? ahead - late / EASE : heard;
};

// The same from an answer's `Date`, which is whole seconds: only until something better is known.
export const hearDate = (text) => {
  const ms = Date.parse(text ?? "");
  if (ahead === null && !Number.isNaN(ms)) hear(ms);
};

// What it is there, in ms, at a moment of `performance.now()`; by the browser's clock before the dashboard has told.
export const timeAt = (moment) => moment + (ahead ?? Date.now() - performance.now());

export const now = () => timeAt(performance.now());
