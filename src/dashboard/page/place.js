// Where the reader was on a page that is long only once its numbers are there: found again after a reload.

const PLACE = "place";
// So long the page may take to be as long as it was.
const PATIENCE_MS = 10_000;

// `list`: what scrolls within the page, with `top` and `goTo(top)`.
export class Place {
  constructor(list) {
    addEventListener("pagehide", () => {
      sessionStorage.setItem(PLACE, JSON.stringify({ address: location.href, page: scrollY, list: list.top }));
    });
    const kept = JSON.parse(sessionStorage.getItem(PLACE));
    const [{ type } = {}] = performance.getEntriesByType("navigation");
    if (type === "navigate" || kept?.address !== location.href) return;
    if (kept.list > 0) list.goTo(kept.list);
    if (kept.page > 0) this.find(kept.page);
  }

  find(top) {
    const done = new AbortController();
    const { signal } = done;
    const grown = new ResizeObserver(() => {
      if (document.documentElement.scrollHeight - innerHeight < top) return;
      scrollTo(0, top);
      done.abort();
    });
    signal.addEventListener("abort", () => grown.disconnect());
    // Who moves meanwhile is where they want to be.
    for (const sign of ["wheel", "pointerdown", "keydown", "touchstart"]) addEventListener(sign, () => done.abort(), { signal, passive: true });
    setTimeout(() => done.abort(), PATIENCE_MS);
    grown.observe(document.body);
  }
}
