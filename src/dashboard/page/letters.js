// Dead letters: the newest messages that were no play, as the processors tell them. What they hold is text, never markup.

import { byId, count, element, many, setAttribute, setText, stamp } from "./format.js";
import { fetchJson } from "./net.js";

const PAGE = 20;
// While the view is open it is asked for again.
const ASK_MS = 5000;

// What is said above the list; `rejected` are those that all processors have rejected since their starts.
export const summary = ({ matching, rejected }, offset, shown) => {
  if (rejected === 0 && matching === 0) return "No message was rejected since the processors' start.";
  const all = `${many(rejected, "message")} rejected since the processors' start`;
  if (matching === 0) return `${all}; no processor has told of one.`;
  return shown === 0 ? `${all}; there are no more pages.` : `${all}; ${count(offset + 1)} to ${count(offset + shown)} of the newest ${count(matching)}.`;
};

const newLetter = ({ processor, at, nsqd, message_id: message, reason, size, body }) => {
  const item = element("li", "letter");
  const when = element("time", "", stamp(at));
  when.dateTime = new Date(at).toISOString();
  const from = element("p", "note");
  from.append(when, `, message ${message || "without an id"} of nsqd ${nsqd || "unknown"}, by processor ${processor}`);
  const bytes = new TextEncoder().encode(body).length;
  const cut = bytes < size ? `The first of ${many(size, "byte")}:` : `${many(size, "byte")}:`;
  // It scrolls where it is long, also by keyboard.
  const text = element("pre", "", body);
  text.tabIndex = 0;
  text.dir = "auto";
  text.setAttribute("aria-label", `Body of message ${message}`);
  text.setAttribute("role", "group");
  item.append(element("strong", "", reason), from, element("p", "note", size === 0 ? "Its body is empty." : cut));
  if (size > 0) item.append(text);
  return item;
};

export class Letters {
  constructor(state) {
    Object.assign(this, { state, shown: false, known: "" });
    setInterval(() => this.refresh(), ASK_MS);
  }

  show() {
    this.shown = true;
    setAttribute(byId("letters-back"), "href", this.state.link({ view: "queue", page: "1" }));
    this.refresh();
  }

  hide() {
    this.shown = false;
  }

  stats() {}

  async refresh() {
    if (!this.shown || document.hidden) return;
    const { page } = this.state.values;
    const offset = (Number(page) - 1) * PAGE;
    try {
      const answer = await fetchJson(`api/dead-letters?limit=${PAGE}&offset=${offset}`);
      if (page === this.state.values.page) this.take(answer, offset);
    } catch (error) {
      setText(byId("letters-error"), error.message);
      byId("letters-error").hidden = false;
    }
  }

  take(answer, offset) {
    byId("letters-error").hidden = true;
    const { letters, matching } = answer;
    setText(byId("letters-said"), summary(answer, offset, letters.length));
    const known = JSON.stringify(letters);
    // What is the same stays: focus, selection and scrolled texts do.
    if (known !== this.known) byId("letters").replaceChildren(...letters.map(newLetter));
    this.known = known;
    const page = Number(this.state.values.page);
    const go = (id, to, there) => {
      byId(id).hidden = !there;
      setAttribute(byId(id), "href", this.state.link({ view: "letters", page: String(to) }));
    };
    go("letters-newer", Math.max(1, page - 1), page > 1);
    go("letters-older", page + 1, offset + letters.length < matching);
  }
}
