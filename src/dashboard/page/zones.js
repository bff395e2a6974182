// Time zones: the one that times are shown in, and where its days, hours and months begin. The browser knows all zones;
// the dashboard is asked for plays between moments and needs none.

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const KEPT = "zone";

export const isZone = (name) => {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone: name }));
  } catch {
    return false;
  }
};

// The browser's. Asking costs more than any use of it, so that it is asked when a view is shown.
const askZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
let own = askZone();
export const browserZone = () => own;

// Storage may be refused; then a choice lasts as long as its address.
const kept = {
  get: () => { try { return localStorage.getItem(KEPT) ?? ""; } catch { return ""; } },
  set: (name) => { try { if (name) localStorage.setItem(KEPT, name); else localStorage.removeItem(KEPT); } catch { /* see above */ } },
};

let chosen = "";

// The zone that times are shown in.
export const zone = () => chosen || own;

// Takes the zone that the address names, or the one that was kept, or the browser's. Whether it is another one now.
export const useZone = (named) => {
  const before = zone();
  own = askZone();
  const found = named || kept.get();
  chosen = isZone(found) ? found : "";
  return zone() !== before;
};

// Keeps a choice for the next visit; "" is the browser's.
export const keepZone = (name) => kept.set(name);

// A formatter costs more than what it does.
const made = new Map();
const formatter = (name) => {
  if (!made.has(name)) {
    const parts = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" };
    made.set(name, new Intl.DateTimeFormat("en-US", { timeZone: name, calendar: "iso8601", numberingSystem: "latn", hourCycle: "h23", ...parts }));
  }
  return made.get(name);
};

// What clocks in a zone show, as ms: those of the same time in UTC.
export const wall = (ms, name = zone()) => {
  const { year, month, day, hour, minute, second } = Object.fromEntries(formatter(name).formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(year, month - 1, day, hour, minute, second);
};

const DAY_MS = 24 * HOUR_MS;

// The first minute at which clocks show `wanted` or later. Near it they may go back, but not over a midnight.
const atWall = (wanted, name) => {
  let [low, high] = [wanted - 16 * HOUR_MS, wanted + 16 * HOUR_MS];
  while (high - low > MINUTE_MS) {
    const middle = low + Math.floor((high - low) / 2 / MINUTE_MS) * MINUTE_MS;
    if (wall(middle, name) >= wanted) high = middle;
    else low = middle;
  }
  return high;
};

// The first moment at which clocks in the zone show what `wall` says.
export const fromWall = (wanted, name = zone()) => atWall(wanted, name);

const dayOf = (ms, name) => Math.floor(wall(ms, name) / DAY_MS) * DAY_MS;

// When the day of `ms` begins, or the one so many days later. Where clocks skip midnight it begins behind that.
export const dayStart = (ms, days = 0, name = zone()) => atWall(dayOf(ms, name) + days * DAY_MS, name);

// When the month of `ms` begins, or the one so many months later.
export const monthStart = (ms, months = 0, name = zone()) => {
  const day = new Date(dayOf(ms, name));
  return atWall(Date.UTC(day.getUTCFullYear(), day.getUTCMonth() + months, 1), name);
};

// When the hour of `ms` begins by the clocks of the zone.
export const hourStart = (ms, name = zone()) => ms - (wall(ms, name) - Math.floor(wall(ms, name) / HOUR_MS) * HOUR_MS);

// When the hour behind the one that begins at `ms` begins: an hour later, but where clocks are changed by half an hour.
const nextHour = (ms, name) => {
  const next = ms + HOUR_MS;
  const past = wall(next, name) - Math.floor(wall(next, name) / HOUR_MS) * HOUR_MS;
  return past === 0 ? next : next + HOUR_MS - past;
};

const NEXT = {
  minute: (ms) => ms + MINUTE_MS,
  hour: nextHour,
  day: (ms, name) => dayStart(ms, 1, name),
  month: (ms, name) => monthStart(ms, 1, name),
};

const START = {
  minute: (ms) => Math.floor(ms / MINUTE_MS) * MINUTE_MS,
  hour: hourStart,
  day: (ms, name) => dayStart(ms, 0, name),
  month: (ms, name) => monthStart(ms, 0, name),
};

// The beginnings of all minutes, hours, days or months from that of `from` to the first that is not before `to`.
export const edges = (unit, from, to, name = zone()) => {
  const found = [START[unit](from, name)];
  while (found.at(-1) < to) found.push(NEXT[unit](found.at(-1), name));
  return found;
};
