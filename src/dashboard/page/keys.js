// Single keys that change what is shown. They can be turned off, in Help (WCAG 2.1.4): who speaks to the browser, or
// touches a key by mistake, must not be sent elsewhere.

import { byId, setAttribute } from "./format.js";

const OFF = "keys-off";
const SEARCH = "/";
const VIEWS = { o: "overview", v: "videos", c: "counter", q: "queue", h: "help", "?": "help" };
const RANGES = { 1: "30m", 2: "today", 3: "7d", 4: "30d" };

// Storage may be refused; then they are on, and off until the page is left.
const stored = {
  get: () => { try { return localStorage.getItem(OFF); } catch { return null; } },
  set: (off) => { try { if (off) localStorage.setItem(OFF, "1"); else localStorage.removeItem(OFF); } catch { /* see above */ } },
};

const isTyping = ({ target }) => target.isContentEditable || target.closest?.("input, select, textarea") || document.querySelector("dialog[open]");

export class Keys {
  constructor(state) {
    const box = byId("keys-on");
    box.checked = stored.get() === null;
    box.addEventListener("change", () => {
      stored.set(!box.checked);
      showKeys(box.checked);
    });
    showKeys(box.checked);
    document.addEventListener("keydown", (event) => {
      // Shift is no such modifier: some keyboards have / and digits behind it.
      if (!box.checked || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.defaultPrevented || event.repeat || event.isComposing || isTyping(event)) return;
      if (press(event.key, state)) event.preventDefault();
    });
  }
}

// Whether the key does anything.
const press = (key, state) => {
  const view = VIEWS[key];
  if (key === SEARCH) {
    state.set({ view: "videos", video: "" });
    byId("search").focus();
    byId("search").select();
  } else if (view && !navLink(view).hidden) {
    state.set({ view, video: "" });
  } else if (RANGES[key] && state.values.view === "overview") {
    state.set({ range: RANGES[key], from: "", to: "" });
  } else {
    return false;
  }
  return true;
};

const navLink = (view) => document.querySelector(`nav a[data-view="${view}"]`);

// Tells screen readers, too.
const showKeys = (on) => {
  for (const [node, key] of [[byId("search"), SEARCH], ...Object.entries(VIEWS).map(([key, view]) => [navLink(view), key]).filter(([, key]) => key !== "?")]) {
    if (on) setAttribute(node, "aria-keyshortcuts", key);
    else node.removeAttribute("aria-keyshortcuts");
  }
};
