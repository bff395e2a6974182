// The dashboard as the page sees it: JSON by call, and one stream of events.

// An event comes every second; after this long without one the numbers are called stale.
const STALE_MS = 4000;
// How long a refused stream rests. EventSource itself tries again only after a cut, not after an answer like 503.
const AGAIN_MS = 3000;

// The answer of a call; an Error with the dashboard's own words and `status` where it refuses.
export const fetchJson = async (path, options) => {
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error ?? `the dashboard answered ${response.status}`), { status: response.status });
};

// One EventSource, closed while nobody looks at the tab and opened again when somebody does.
export class Stream {
  constructor({ onStats, onShown, onBadge }) {
    Object.assign(this, { onStats, onBadge, heard: 0, heardAt: 0, opened: 0, tried: 0, source: null });
    const follow = () => {
      if (document.hidden) return this.close();
      if (this.source) return;
      this.open();
      if (this.heard > 0) onShown();
    };
    document.addEventListener("visibilitychange", follow);
    // A page in the back-forward cache must not hold a connection.
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", follow);
    setInterval(() => this.check(), 1000);
    if (!document.hidden) this.open();
  }

  open() {
    this.opened = performance.now();
    this.connect();
  }

  connect() {
    this.close();
    this.tried = performance.now();
    this.source = new EventSource("/events");
    this.source.addEventListener("stats", (event) => {
      this.heard = performance.now();
      this.heardAt = Date.now();
      this.onStats(JSON.parse(event.data));
      this.onBadge(this.state, this.heardAt);
    });
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  check() {
    const refused = this.source?.readyState === EventSource.CLOSED;
    if (refused && performance.now() - this.tried > AGAIN_MS) this.connect();
    if (!document.hidden) this.onBadge(this.state, this.heardAt);
  }

  get state() {
    const now = performance.now();
    if (now - this.heard < STALE_MS && this.heard >= this.opened) return "live";
    // What is opened anew is not called stale before it had the time to speak.
    return this.heard === 0 || (this.heard < this.opened && now - this.opened < STALE_MS) ? "connecting" : "stale";
  }
}
