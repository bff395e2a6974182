// Light, dark, or as the system is: the reader's choice, kept in this browser. This script is no module: it runs before
// anything is drawn, so that the page is never seen in the other colours first.

(() => {
  const KEY = "theme";
  const root = document.documentElement;

  // Storage may be refused, in a frame of another site or by the browser's settings: then the choice lasts as long as the page.
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const keep = (theme) => {
    try {
      if (theme === "system") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // It holds until the page is left.
    }
  };

  const show = (theme) => {
    const chosen = ["light", "dark"].includes(theme) ? theme : "system";
    if (chosen === "system") delete root.dataset.theme;
    else root.dataset.theme = chosen;
    const choice = document.getElementById("theme");
    if (choice) choice.value = chosen;
    // Charts are drawn again in the other colours.
    document.dispatchEvent(new Event("theme"));
  };

  show(kept());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
  // Chosen in another window.
  addEventListener("storage", ({ key, newValue }) => {
    if (key === KEY || key === null) show(newValue);
  });
  document.addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    if (!choice) return;
    show(kept());
    choice.addEventListener("change", () => {
      keep(choice.value);
      show(choice.value);
    });
  });
})();
