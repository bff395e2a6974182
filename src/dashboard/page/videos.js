// The list of all videos. A million rows are a few dozen elements: those in sight, filled from windows of the list.

import { Changed } from "./changed.js";
import { CHOSEN_MAX, chosenIn, toggled } from "./chosen.js";
import { byId, count, element, many, moment, setAttribute, setText, share } from "./format.js";
import { fetchJson } from "./net.js";
import { newName, showName, sought } from "./titles.js";

const CELLS = ["pick", "video_id", "plays", "share", "last_played_at", "updated_at"];
const TEXT = { plays: count, last_played_at: moment, updated_at: moment };
// Rows asked for at once, and rows drawn beyond either end of what is in sight.
const WINDOW = 100;
const BEYOND = 8;
// Browsers stop at 17 to 33 million px; beyond this height the scrollbar stands for more than it is high.
const GROUND_MAX_PX = 8_000_000;
// Windows kept for scrolling back.
const KEPT = 40;
// Events come up to four times a second; rows that change faster than this cannot be read.
const REFRESH_MS = 900;
// How long the typing must rest before it is searched for, and the scrolling before the bar is put right.
const TYPING_MS = 200;
const REST_MS = 150;
// The longest text that is searched for, in letters.
const SEARCH_MAX = 300;

export class Videos {
  constructor(state, favourites) {
    Object.assign(this, {
      state, favourites, shown: false, matching: 0, known: false, windows: new Map(), question: 0, refused: -1, latest: -1,
      // `top`: px of the whole list above the sight. `origin`: where row 0 is on the ground; it may lie far above it.
      top: 0, origin: 0, scrolled: 0, ratio: 1, active: -1, pool: [], busy: false,
      // The video whose page was shown: the list may have moved meanwhile.
      sought: "",
    });
    this.box = byId("videos");
    this.changed = new Changed(state);
    this.head = byId("videos-head");
    this.ground = byId("videos-rows");
    this.headers = [...this.head.querySelectorAll("[data-sort]")];
    for (const header of this.headers) {
      header.querySelector("button").addEventListener("click", () => this.sortBy(header.dataset.sort));
    }
    favourites.onChange(() => this.draw());
    byId("chosen-clear").addEventListener("click", () => state.set({ videos: "" }, true));
    byId("search").addEventListener("input", (event) => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.find(event.target.value.trim()), TYPING_MS);
    });
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.box.focus();
    });
    this.box.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("focus", () => {
      // A row to start from, without moving anything.
      if (!this.isInSight(this.active)) this.active = Math.ceil(this.top / this.row);
      this.draw();
    });
    this.ground.addEventListener("click", (event) => {
      const row = event.target.closest("[role=row]");
      const link = row?.querySelector("a");
      if (!link || event.target.closest("a, input, button")) return;
      // Text that is being selected is not a click.
      if (getSelection().isCollapsed) link.click();
    });
    new ResizeObserver(() => this.measure()).observe(this.box);
  }

  sortBy(column) {
    // Numbers are wanted largest first, ids from the start.
    const first = column === "video_id" ? column : `-${column}`;
    const { sort } = this.state.values;
    this.state.set({ sort: sort === first ? (first.startsWith("-") ? column : `-${column}`) : first });
  }

  // Finds what was typed, or the video whose address was pasted. A video may have an address for its id: that is tried first.
  async find(typed) {
    const box = byId("search");
    const id = sought(typed);
    const isId = id === typed || (await this.isKnown(typed));
    // Typed on meanwhile: that is looked for next.
    if (box.value.trim() !== typed) return;
    if (!isId) box.value = id;
    this.state.set({ search: (isId ? typed : id).slice(0, SEARCH_MAX) }, true);
  }

  // Whether there is something to be found for `search`.
  async isKnown(search) {
    if (search.length > SEARCH_MAX) return false;
    const query = new URLSearchParams({ search, limit: 1 });
    return fetchJson(`api/counts?${query}`).then(({ matching }) => matching > 0, () => false);
  }

  show(values, before) {
    this.showChosen(values);
    const asked = `${values.sort} ${values.search}`;
    const returned = !this.shown;
    this.shown = true;
    if (document.activeElement !== byId("search")) byId("search").value = values.search;
    for (const header of this.headers) {
      const sorted = values.sort.replace("-", "") === header.dataset.sort;
      setAttribute(header, "aria-sort", !sorted ? "none" : values.sort.startsWith("-") ? "descending" : "ascending");
    }
    if (asked !== this.asked) {
      this.asked = asked;
      this.question += 1;
      this.active = -1;
      this.measure();
      this.place(0);
    } else if (returned) {
      // A hidden box forgets how far it was scrolled.
      const { top } = this;
      this.measure();
      this.place(top);
    }
    if (values.videos !== before.videos) this.draw();
    if (returned) this.changed.load();
    if (returned && before.view === "video") {
      this.sought = before.video;
      this.box.focus({ preventScroll: true });
    }
    this.pump();
  }

  // Goes there as soon as it is known how many there are.
  goTo(top) {
    this.wish = top;
  }

  hide() {
    this.shown = false;
  }

  refresh() {
    this.changed.load();
    this.pump();
  }

  stats(stats) {
    this.latest = stats.revision;
    this.total = stats.total_plays;
    this.pump();
  }

  // ---- where things are

  measure() {
    if (!this.shown || this.box.clientHeight === 0) return;
    this.row = parseFloat(getComputedStyle(this.box).getPropertyValue("--row"));
    this.sight = this.box.clientHeight - this.head.offsetHeight;
    this.layOut();
  }

  layOut() {
    const whole = this.matching * this.row;
    const ground = Math.min(whole, GROUND_MAX_PX);
    const height = `${ground}px`;
    if (this.ground.style.height !== height) this.ground.style.height = height;
    this.topMax = Math.max(0, whole - this.sight);
    this.scrollMax = Math.max(0, ground - this.sight);
    this.ratio = whole > GROUND_MAX_PX ? this.topMax / this.scrollMax : 1;
    this.top = Math.min(this.top, this.topMax);
    while (this.pool.length < Math.ceil(this.sight / this.row) + 2 * BEYOND + 2) this.pool.push(this.newRow(this.pool.length));
    setAttribute(this.box, "aria-rowcount", this.matching + 1);
    // The bar keeps its place unless the list has changed under it.
    if (this.ratio === 1) {
      this.origin = 0;
    } else if (Math.abs(this.box.scrollTop - this.top / this.ratio) > 1) {
      return this.place(this.top);
    }
    this.draw();
  }

  // From the first title on rows have two lines; what was in sight stays there.
  makeRoom() {
    this.titled = true;
    const { row, top } = this;
    this.box.toggleAttribute("data-titled", true);
    this.measure();
    if (row) this.place((top / row) * this.row);
  }

  // Puts the sight at `top` and the scrollbar where it belongs.
  place(top) {
    if (this.row === undefined) return;
    this.top = Math.max(0, Math.min(top, this.topMax));
    this.box.scrollTop = this.top / this.ratio;
    this.scrolled = this.box.scrollTop;
    if (this.ratio === 1) this.top = this.scrolled;
    this.origin = this.scrolled - this.top;
    this.draw();
  }

  onScroll() {
    const at = this.box.scrollTop;
    const moved = at - this.scrolled;
    if (moved === 0 || !this.shown) return;
    this.scrolled = at;
    this.sought = "";
    if (this.ratio === 1) {
      this.top = at;
    } else if (at <= 0 || at >= this.scrollMax - 1) {
      this.top = at <= 0 ? 0 : this.topMax;
      this.origin = at - this.top;
    } else if (Math.abs(moved) < 2 * this.sight) {
      // A wheel or a finger: the rows go by as many px as it moved, whatever the bar stands for.
      this.top = Math.max(0, Math.min(this.top + moved, this.topMax));
      this.origin = at - this.top;
    } else {
      this.top = at * this.ratio;
      this.origin = at - this.top;
    }
    clearTimeout(this.rest);
    if (this.ratio !== 1) this.rest = setTimeout(() => Math.abs(this.scrolled - this.top / this.ratio) > 1 && this.place(this.top), REST_MS);
    this.draw();
    this.pump();
  }

  isInSight(index) {
    return index >= 0 && index * this.row >= this.top - 1 && (index + 1) * this.row <= this.top + this.sight + 1;
  }

  onKey(event) {
    if (event.target !== this.box || event.ctrlKey || event.metaKey || event.altKey || this.matching === 0) return;
    const rows = Math.max(1, Math.floor(this.sight / this.row) - 1);
    const from = this.active < 0 ? Math.ceil(this.top / this.row) : this.active;
    const to = { ArrowDown: from + 1, ArrowUp: from - 1, PageDown: from + rows, PageUp: from - rows, Home: 0, End: this.matching - 1 }[event.key];
    const video = this.video(this.active);
    if (event.key === " " && video) {
      event.preventDefault();
      this.choose(video.video_id);
    } else if (event.key === "f" && video) {
      this.favourites.toggle(video.video_id);
    } else if (event.key === "Enter") {
      if (video) this.state.set({ view: "video", video: video.video_id });
    } else if (to !== undefined) {
      event.preventDefault();
      this.sought = "";
      this.active = Math.max(0, Math.min(to, this.matching - 1));
      this.reveal(this.active);
      this.draw();
      this.pump();
    }
  }

  reveal(index) {
    const above = index * this.row;
    if (!this.isInSight(index)) this.place(above < this.top ? above : above + this.row - this.sight);
  }

  // Puts the active row where the video is that was looked at, if it is near enough to be in these rows.
  seek(number, counts) {
    const at = counts.findIndex((video) => video.video_id === this.sought);
    if (at < 0) return;
    this.sought = "";
    this.active = number * WINDOW + at;
    this.reveal(this.active);
  }

  // ---- what is drawn

  newRow(slot) {
    const row = element("div", "row");
    row.id = `video-row-${slot}`;
    row.setAttribute("role", "row");
    row.hidden = true;
    CELLS.forEach((name) => {
      const cell = element("div", `cell ${name}`);
      cell.setAttribute("role", "gridcell");
      if (name === "pick") cell.append(...this.newPick());
      if (name === "video_id") {
        // The grid is one stop of the tab key; Enter opens the row.
        cell.append(...newName({ tabIndex: -1 }));
      }
      row.append(cell);
    });
    this.ground.append(row);
    return row;
  }

  // Chooses a video to be compared, and makes it a favourite. The grid is one stop of the tab key; Space and f do the same.
  newPick() {
    const box = element("input");
    box.type = "checkbox";
    box.addEventListener("change", () => this.choose(box.value));
    const star = element("button", "star");
    star.type = "button";
    star.addEventListener("click", () => this.favourites.toggle(box.value));
    [box.tabIndex, star.tabIndex] = [-1, -1];
    return [box, star];
  }

  choose(id) {
    this.state.set({ videos: toggled(this.state.values.videos, id) }, true);
  }

  showPick(cell, video) {
    const [box, star] = cell.children;
    box.hidden = !video;
    star.hidden = !video;
    if (!video) return;
    const { video_id: id, title } = video;
    const chosen = chosenIn(this.state.values.videos);
    box.value = id;
    box.checked = chosen.includes(id);
    box.disabled = !box.checked && chosen.length >= CHOSEN_MAX;
    setAttribute(box, "aria-label", `Compare ${title || id}`);
    const on = this.favourites.has(id);
    setText(star, on ? "★" : "☆");
    setAttribute(star, "aria-pressed", on);
    setAttribute(star, "aria-label", `Favourite: ${title || id}`);
  }

  // What is chosen, and the way to compare it.
  showChosen({ videos }) {
    const { length } = chosenIn(videos);
    byId("chosen").hidden = length === 0;
    setText(byId("chosen-said"), `${many(length, "video")} of at most ${CHOSEN_MAX} chosen`);
    setAttribute(byId("chosen-compare"), "href", this.state.link({ view: "compare" }));
  }

  video(index) {
    return this.windows.get(Math.floor(index / WINDOW))?.counts[index % WINDOW];
  }

  draw() {
    if (this.row === undefined) return;
    const first = Math.max(0, Math.floor(this.top / this.row) - BEYOND);
    const end = Math.min(this.matching, Math.ceil((this.top + this.sight) / this.row) + BEYOND, first + this.pool.length);
    // A row keeps its element while it is in sight, so that nothing under the reader's eye or pointer is moved.
    for (const [slot, row] of this.pool.entries()) {
      const index = first + ((slot - (first % this.pool.length) + this.pool.length) % this.pool.length);
      row.hidden = index >= end;
      if (index < end) this.fill(row, index);
    }
    const shown = this.active >= first && this.active < end && document.activeElement === this.box;
    if (shown) setAttribute(this.box, "aria-activedescendant", this.pool[this.active % this.pool.length].id);
    else this.box.removeAttribute("aria-activedescendant");
    this.describe();
  }

  fill(row, index) {
    const move = `translateY(${index * this.row + this.origin}px)`;
    if (row.style.transform !== move) row.style.transform = move;
    setAttribute(row, "aria-rowindex", index + 2);
    row.classList.toggle("active", index === this.active);
    row.classList.toggle("odd", index % 2 === 1);
    const video = this.video(index);
    row.classList.toggle("pending", !video);
    const same = video !== undefined && row.dataset.video === video.video_id;
    row.dataset.video = video?.video_id ?? "";
    const [pick, id, ...numbers] = row.children;
    this.showPick(pick, video);
    showName(id.childNodes, video, video && this.state.link({ view: "video", video: video.video_id }));
    numbers.forEach((cell, at) => {
      const name = CELLS[at + 2];
      const text = !video ? "" : name === "share" ? share(this.total > 0 ? video.plays / this.total : undefined) : TEXT[name](video[name]);
      const changed = setText(cell, text);
      if (changed && same && name === "plays") flash(cell);
    });
  }

  describe() {
    const first = Math.floor(this.top / this.row) + 1;
    const last = Math.min(this.matching, Math.ceil((this.top + this.sight) / this.row));
    const { search } = this.state.values;
    const empty = this.known && this.matching === 0;
    byId("videos-empty").hidden = !empty;
    // A list of nothing is not as high as one of many.
    this.box.toggleAttribute("data-empty", empty);
    setText(byId("videos-empty"), search ? "No id starts like that, and no title has these words." : "No video has been counted yet.");
    setText(byId("videos-place"), !this.known ? "" : empty ? "0 videos" : `${count(first)}–${count(last)} of ${count(this.matching)}${search ? " found" : ""}`);
  }

  // ---- what is asked for

  // The next window that is missing in sight, or older than the newest revision.
  wanted() {
    if (this.refused === this.question || this.row === undefined) return undefined;
    const first = Math.floor(this.top / this.row / WINDOW);
    const last = Math.floor(Math.max(0, Math.min(this.matching * this.row - 1, this.top + this.sight)) / this.row / WINDOW);
    const now = performance.now();
    let old;
    for (let number = first; number <= Math.max(first, last); number += 1) {
      const known = this.windows.get(number);
      if (!known || known.question !== this.question) return number;
      const due = this.latest >= 0 && known.revision !== this.latest && now - known.loaded > REFRESH_MS;
      if (due) old ??= number;
    }
    return old;
  }

  // One call at a time, always the one wanted now: what was scrolled past is never asked for.
  async pump() {
    if (this.busy || !this.shown || document.hidden) return;
    this.busy = true;
    try {
      for (let number; (number = this.wanted()) !== undefined;) {
        if (!(await this.load(number))) break;
      }
    } finally {
      this.busy = false;
    }
  }

  async load(number) {
    const { question } = this;
    const { sort, search } = this.state.values;
    const query = new URLSearchParams({ sort, search, limit: WINDOW, offset: number * WINDOW });
    if (!search) query.delete("search");
    try {
      this.take(number, question, await fetchJson(`api/counts?${query}`));
      return true;
    } catch (error) {
      if (question !== this.question) return true;
      // What was refused is not asked again; what failed is, with the next event.
      if (error.status === 400) this.refused = question;
      setText(byId("videos-error"), error.message);
      byId("videos-error").hidden = false;
      return false;
    }
  }

  take(number, question, { matching, revision, counts, total_plays: total }) {
    if (question !== this.question) return;
    this.total = total;
    byId("videos-error").hidden = true;
    const first = [...this.windows.values()].every((known) => known.question !== question);
    // The answer to the question before stays on show until this one.
    if (first) this.windows.clear();
    this.windows.delete(number);
    this.windows.set(number, { question, revision, counts, loaded: performance.now() });
    if (this.windows.size > KEPT) this.windows.delete(this.windows.keys().next().value);
    this.known = true;
    if (!this.titled && counts.some((video) => video.title)) this.makeRoom();
    if (first && this.state.values.search) setText(byId("videos-said"), `${many(matching, "video")} found`);
    if (matching !== this.matching) {
      this.matching = matching;
      this.layOut();
    }
    if (first && this.wish) {
      this.place(this.wish);
      this.wish = 0;
    }
    if (this.sought) this.seek(number, counts);
    this.draw();
  }
}

const flash = (cell) => {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  cell.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }], { duration: 800, easing: "ease-out" });
};
