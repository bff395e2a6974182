// Ranges of time, in the zone that times are shown in: which moments a range has, which bars suit it, and what its plays
// and those of the time before come to. Nothing is drawn here.

import { now } from "./clock.js";
import { dayStart, edges, fromWall, monthStart, wall } from "./zones.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
// The most moments that /api/plays takes.
const EDGES_MAX = 500;

// How long a bar is, by how long the range is at most.
const UNITS = [["minute", 2 * HOUR_MS], ["hour", 3 * DAY_MS], ["day", 400 * DAY_MS], ["month", Infinity]];
const unitFor = (length) => UNITS.find(([, most]) => length <= most)[0];

// From and to in ms. They end at a full minute, so that many readers ask for the same and share one answer. Days are whole ones
// of the zone, today included.
export const bounds = ({ range, from, to }) => {
  const end = (Math.floor(now() / MINUTE_MS) + 1) * MINUTE_MS;
  switch (range) {
    case "custom": return [Date.parse(from), Date.parse(to)];
    case "today": return [dayStart(end - 1), end];
    case "7d": return [dayStart(end - 1, -6), end];
    case "30d": return [dayStart(end - 1, -29), end];
    default: return [end - 30 * MINUTE_MS, end];
  }
};

// The bars that show `from` to `to`, and as many before them: { unit, bars, before, whole, old, edges }. `bars` and `before` are
// edges, one more than there are bars; `before` is empty where all would be too many. `whole`: the range itself, which may begin
// and end inside of a bar; `old`: as much of the time before, up to where now is in the range. `edges`: what to ask for.
export const barsOf = (from, to, unit = unitFor(to - from)) => {
  const minute = (ms) => Math.floor(ms / MINUTE_MS) * MINUTE_MS;
  const bars = edges(unit, from, to);
  const [first, number] = [bars[0], bars.length - 1];
  const isDay = dayStart(first) === first && dayStart(first, 1) === bars.at(-1);
  const begin = {
    minute: () => first - number * MINUTE_MS, hour: () => (isDay ? dayStart(first, -1) : first - number * HOUR_MS),
    day: () => dayStart(first, -number), month: () => monthStart(first, -number),
  }[unit]();
  const before = 2 * number + 6 <= EDGES_MAX ? edges(unit, begin, first) : [];
  const whole = [minute(from), minute(to)];
  const end = Math.min(whole[1], minute(now()) + MINUTE_MS);
  // As far back by the clock: noon is compared with noon.
  const back = wall(first) - wall(begin);
  const old = [whole[0], end].map((ms) => Math.min(first, unit === "minute" ? ms - number * MINUTE_MS : fromWall(wall(ms) - back)));
  const asked = [...before, ...(before.length > 0 ? old : []), ...whole, ...bars];
  return { unit, bars, before, whole, old, edges: [...new Set(asked)].sort((one, other) => one - other) };
};

// The plays from one moment to another, both among the answer's edges.
const sum = ({ edges: at, plays }, from, to) => plays.reduce((all, value, row) => (at[row] >= from && at[row] < to ? all + value : all), 0);

// What the answer says of bars: the plays of each (null: nobody recorded them, or they are to come), which one is not over,
// those of the bar before for each, and the totals. `totalBefore` is null where not all of that time is known.
export const summed = ({ unit, bars, before, whole, old: past }, answer) => {
  const at = now();
  const known = answer.known_from;
  const each = (list) => list.slice(1).map((end, row) => (end <= known ? null : sum(answer, list[row], end)));
  const plays = each(bars).map((value, row) => (bars[row] > at ? null : value));
  const unfinished = bars.findIndex((start, row) => start <= at && at < bars[row + 1]);
  const old = before.length > 0 ? each(before) : [];
  // Of hours, the one that clocks showed the same at: days may have 23 or 25.
  const clock = (ms) => wall(ms) % DAY_MS;
  const byClock = unit === "hour" && bars.length !== before.length;
  const beforeBar = (start, row) => (byClock ? old[before.findIndex((one) => clock(one) === clock(start))] : old[row]) ?? null;
  return {
    plays, unfinished, before: bars.slice(0, -1).map(beforeBar), total: sum(answer, ...whole),
    totalBefore: before.length > 0 && past[0] >= known ? sum(answer, ...past) : null,
  };
};
