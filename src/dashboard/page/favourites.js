// Videos that a reader wants at hand: kept in this browser, and shown above the list of all videos.

import { byId, element, many, setAttribute, setText } from "./format.js";
import { fetchJson } from "./net.js";
import { newName, showName } from "./titles.js";

const KEY = "favourites";
// Each is asked for by a call of its own.
const MOST = 20;
const ASK_MS = 10_000;

// The ids in what is stored, whatever else stands there.
export const idsIn = (text) => {
  try {
    const ids = JSON.parse(text ?? "[]");
    return Array.isArray(ids) ? [...new Set(ids.filter((id) => typeof id === "string" && id && id.length <= 128))].slice(0, MOST) : [];
  } catch {
    return [];
  }
};

export class Favourites {
  constructor(state) {
    Object.assign(this, { state, ids: [], known: new Map(), listeners: [], asking: false });
    this.read();
    addEventListener("storage", ({ key }) => {
      if (key !== KEY && key !== null) return;
      this.read();
      this.tell();
    });
    byId("video-favourite").addEventListener("click", () => this.toggle(state.values.video));
    setInterval(() => this.ask(), ASK_MS);
  }

  read() {
    try {
      this.ids = idsIn(localStorage.getItem(KEY));
    } catch {
      // Storage may be refused: then they last as long as the page.
    }
  }

  has(id) {
    return this.ids.includes(id);
  }

  // `change` is called whenever they change.
  onChange(change) {
    this.listeners.push(change);
  }

  // Adds a video, the newest first, or takes it away. The oldest one goes when there are too many.
  toggle(id) {
    this.ids = this.has(id) ? this.ids.filter((one) => one !== id) : [id, ...this.ids].slice(0, MOST);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.ids));
    } catch {
      // See above.
    }
    this.tell();
  }

  tell() {
    this.listeners.forEach((change) => change());
    this.show(this.state.values);
  }

  show({ view, video }) {
    if (view === "video") {
      const on = this.has(video);
      setAttribute(byId("video-favourite"), "aria-pressed", on);
      setText(byId("video-favourite"), on ? "★ Favourite" : "☆ Favourite");
    }
    this.draw();
    this.ask();
  }

  async ask() {
    if (this.asking || document.hidden || this.state.values.view !== "videos") return;
    this.asking = true;
    for (const id of this.ids) {
      try {
        this.known.set(id, await fetchJson(`api/counts/${encodeURIComponent(id)}`));
      } catch {
        // It is shown with what was known: it may have been deleted, or the dashboard is away, which the list says.
      }
    }
    this.asking = false;
    this.draw();
  }

  draw() {
    byId("favourites").hidden = this.ids.length === 0;
    const rows = byId("favourite-rows");
    while (rows.children.length > this.ids.length) rows.lastElementChild.remove();
    this.ids.forEach((id, index) => {
      const row = rows.children[index] ?? rows.appendChild(this.newRow());
      const [star, name, plays] = row.children;
      const video = this.known.get(id) ?? { video_id: id };
      star.dataset.video = id;
      setAttribute(star, "aria-label", `Take ${video.title || id} from the favourites`);
      showName(name.childNodes, video, this.state.link({ view: "video", video: id }));
      setText(plays, typeof video.plays === "number" ? many(video.plays, "play") : "");
    });
  }

  newRow() {
    const row = element("li");
    const star = element("button", "star", "★");
    star.type = "button";
    star.addEventListener("click", () => this.toggle(star.dataset.video));
    const name = element("span", "compared-name");
    name.append(...newName());
    row.append(star, name, element("span", "note"));
    return row;
  }
}
