// Where the reader chooses the time zone: each of these lists shows the same choice.

import { element, setAttribute, setText } from "./format.js";
import { browserZone, keepZone, zone } from "./zones.js";

const option = (value, text) => Object.assign(element("option", "", text), { value });

// All zones are some hundreds: they are listed when somebody is about to choose.
const fill = (list) => {
  if (list.options.length > 3) return;
  const names = Intl.supportedValuesOf?.("timeZone") ?? [];
  list.append(...names.filter((name) => name !== list.value).map((name) => option(name, name)));
};

export class ZoneChoice {
  constructor(state) {
    this.lists = [...document.querySelectorAll("select.zone")];
    for (const list of this.lists) {
      list.append(option("", ""), option("UTC", "UTC"));
      ["pointerdown", "focus"].forEach((name) => list.addEventListener(name, () => fill(list)));
      list.addEventListener("change", () => {
        keepZone(list.value);
        state.set({ zone: list.value });
      });
    }
  }

  // The zone that is in use now; `named` in the address, kept, or the browser's.
  show() {
    const [own, used] = [browserZone(), zone()];
    for (const list of this.lists) {
      setText(list.options[0], `browser (${own})`);
      const value = used === own ? "" : used;
      if (![...list.options].some((one) => one.value === value)) list.append(option(value, value));
      list.value = value;
      setAttribute(list, "title", used);
    }
  }
}
