// What the queue's views are made of: tables whose rows are used again, buttons, fields.

import { element, setAttribute, setText } from "./format.js";

export const pushButton = (text, label, onClick) => {
  const button = element("button", "", text);
  button.type = "button";
  if (label) button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
};

export const newTokenField = (required) => {
  const field = element("input");
  field.type = "password";
  field.autocomplete = "off";
  field.required = required;
  return field;
};

export const newError = () => {
  const error = element("p", "error");
  error.setAttribute("role", "alert");
  error.hidden = true;
  return error;
};

export const labelled = (text, control) => {
  const label = element("label", "field");
  label.append(element("span", "", text), control);
  return label;
};

const showCell = (box, cell) => {
  if (typeof cell === "string") return setText(box, cell);
  // The same cell may have been a text.
  if (!box.firstElementChild) {
    box.replaceChildren(element("a"));
    box.firstElementChild.dataset.inside = "";
  }
  setText(box.firstElementChild, cell.text);
  setAttribute(box.firstElementChild, "href", cell.href);
};

const classOf = (kind) => (kind === true ? "number" : kind ?? "");

// A card with a title.
export const card = (title, ...parts) => {
  const box = element("section", "card");
  box.append(element("h3", "", title), ...parts);
  return box;
};

// A table with a caption whose rows are used again: focus and selection stay while numbers change.
export class Grid {
  // `columns`: [title, true for numbers or "words" for what is long and takes several lines].
  constructor(caption, columns) {
    this.columns = columns;
    this.table = element("table", "sheet");
    this.table.append(element("caption", "visually-hidden", caption));
    const head = this.table.createTHead().insertRow();
    for (const [title, kind] of columns) {
      const cell = element("th", classOf(kind), title);
      cell.scope = "col";
      head.append(cell);
    }
    this.body = this.table.createTBody();
    this.box = element("div", "sideways");
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "region");
    this.box.setAttribute("aria-label", caption);
    this.box.append(this.table);
  }

  // `rows`: { key, cells, button? }; a cell is a text, or { text, href } for a link inside the page.
  show(rows) {
    const known = new Map([...this.body.rows].map((row) => [row.dataset.key, row]));
    rows.forEach(({ key, cells, button }, place) => {
      let row = known.get(key);
      known.delete(key);
      if (!row) {
        row = element("tr");
        row.dataset.key = key;
        this.columns.forEach(([, kind], index) => {
          const cell = element(index === 0 ? "th" : "td", classOf(kind));
          if (index === 0) cell.scope = "row";
          row.append(cell);
        });
        if (button) row.lastElementChild.append(button());
      }
      if (this.body.rows[place] !== row) this.body.insertBefore(row, this.body.rows[place] ?? null);
      cells.forEach((cell, index) => showCell(row.cells[index], cell));
    });
    known.forEach((row) => row.remove());
  }
}
