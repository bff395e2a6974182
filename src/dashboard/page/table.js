// The table of videos: which rows to ask for, and how to show an answer without disturbing the reader.

import { count, element, moment, setText } from "./format.js";

const CELLS = ["video_id", "plays", "last_played_at", "updated_at"];
const TEXT = { video_id: String, plays: count, last_played_at: moment, updated_at: moment };
// How long the typing must rest before it is searched for.
const TYPING_MS = 200;
// Events come up to four times a second; rows that change faster than this cannot be read.
const REFRESH_MS = 900;

const byId = (id) => document.getElementById(id);

export class Table {
  constructor() {
    this.sort = "-plays";
    this.offset = 0;
    this.revision = -1;
    this.asked = 0;
    this.body = document.querySelector("#videos tbody");
    this.headers = [...document.querySelectorAll("#videos th")];
    for (const header of this.headers) {
      header.querySelector("button").addEventListener("click", () => this.sortBy(header.dataset.sort));
    }
    byId("search").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.move(0), TYPING_MS);
    });
    byId("rows").addEventListener("change", () => this.move(0));
    byId("previous").addEventListener("click", () => this.move(this.offset - this.limit));
    byId("next").addEventListener("click", () => this.move(this.offset + this.limit));
    this.showSort();
  }

  get limit() {
    return Number(byId("rows").value);
  }

  sortBy(column) {
    // Numbers are wanted largest first, ids from the start.
    const first = column === "video_id" ? column : `-${column}`;
    this.sort = this.sort === first ? (first.startsWith("-") ? column : `-${column}`) : first;
    this.showSort();
    this.move(0);
  }

  showSort() {
    for (const header of this.headers) {
      if (this.sort.replace("-", "") === header.dataset.sort) {
        header.setAttribute("aria-sort", this.sort.startsWith("-") ? "descending" : "ascending");
      } else {
        header.removeAttribute("aria-sort");
      }
    }
  }

  move(offset) {
    this.offset = Math.max(0, offset);
    return this.load(true);
  }

  // Asks again only if counts have changed since the rows on show.
  refresh(revision) {
    // What is skipped here is seen at the next event, within a second.
    if (performance.now() - (this.loaded ?? 0) < REFRESH_MS) return;
    if (revision !== this.revision && !document.hidden) this.load(false);
  }

  async load(asked) {
    // One refresh at a time; what the reader asked for does not wait for it.
    if (!asked && this.loading) return;
    const mine = ++this.asked;
    this.loading = true;
    const query = new URLSearchParams({
      sort: this.sort, limit: this.limit, offset: this.offset, search: byId("search").value,
    });
    try {
      const response = await fetch(`/api/counts?${query}`);
      const answer = await response.json();
      if (mine !== this.asked) return;
      if (!response.ok) throw new Error(answer.error ?? `the dashboard answered ${response.status}`);
      byId("table-error").hidden = true;
      this.show(answer, !asked);
    } catch (error) {
      if (mine !== this.asked) return;
      const box = byId("table-error");
      setText(box, error.message);
      box.hidden = false;
    } finally {
      if (mine === this.asked) this.loading = false;
    }
  }

  show(answer, flash) {
    this.revision = answer.revision;
    this.loaded = performance.now();
    // Rows are used again in their places: focus, selection and scroll stay, and only text that differs is set.
    answer.counts.forEach((video, index) => {
      const row = this.body.rows[index] ?? this.body.appendChild(this.emptyRow());
      const same = row.dataset.video === video.video_id;
      row.dataset.video = video.video_id;
      CELLS.forEach((name, cell) => {
        const node = row.cells[cell];
        node.classList.remove("changed");
        if (setText(node, TEXT[name](video[name])) && flash && same && name === "plays") {
          // Reading the layout lets the same animation start again.
          void node.offsetWidth;
          node.classList.add("changed");
        }
      });
    });
    while (this.body.rows.length > answer.counts.length) this.body.lastElementChild.remove();

    const found = answer.counts.length > 0;
    byId("empty").hidden = found;
    setText(byId("empty"), byId("search").value.trim() || this.offset ? "No video here." : "No video has been counted yet.");
    const last = this.offset + answer.counts.length;
    setText(byId("page"), found ? `${count(this.offset + 1)}–${count(last)} of ${count(answer.matching)}` : "0 videos");
    byId("previous").disabled = this.offset === 0;
    byId("next").disabled = last >= answer.matching;
  }

  emptyRow() {
    const row = element("tr");
    CELLS.forEach((name) => row.append(element("td", name === "video_id" ? "" : "number")));
    return row;
  }
}
