// What a video is called on the page: its title with the id below, or its id alone; and where it is.

import { element, setAttribute, setText } from "./format.js";

// `{id}` in it stands for a video's id; "" where the dashboard knows no such address.
let template = "";

export const setTemplate = (text) => (template = text ?? "");

// Where a video is: what is said of it, else by the template; "" for nowhere. Nothing but http and https is linked to.
export const addressOf = ({ video_id: id, url }) => {
  const address = url || template.replaceAll("{id}", () => encodeURIComponent(id));
  try {
    return ["http:", "https:"].includes(new URL(address).protocol) ? address : "";
  } catch {
    return "";
  }
};

// Names that a query has for a video's id.
const ID_NAMES = ["v", "video", "video_id", "id"];

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

// What stands for `{id}` where `text` is an address that the template makes; "" where it is none.
const byTemplate = (text) => {
  const [head, ...rest] = template.split("{id}");
  if (rest.length === 0 || !text.startsWith(head)) return "";
  const tail = rest[0].replace(/#.*$/, "");
  const found = text.slice(head.length);
  // A query or a place within the page may follow.
  const end = tail ? found.indexOf(tail) : found.search(/[&?#]/);
  return decoded(end < 0 ? (tail ? "" : found) : found.slice(0, end));
};

// The id in a video's address that was pasted: by the template, else by what is usual, `v=` in the query or the last part
// of the path. What is no address stays what it is.
export const sought = (text) => {
  if (!/^https?:\/\/\S+$/i.test(text)) return text;
  const known = byTemplate(text);
  if (known) return known;
  try {
    const { pathname, searchParams } = new URL(text);
    const named = ID_NAMES.map((name) => searchParams.get(name)).find(Boolean);
    return named ?? (decoded(pathname.split("/").filter(Boolean).at(-1) ?? "") || text);
  } catch {
    return text;
  }
};

// A link inside the page with room for an id below it.
export const newName = (options = {}) => {
  const link = Object.assign(element("a", "id"), options);
  link.dataset.inside = "";
  // Text of either direction stays within itself.
  link.dir = "auto";
  const below = element("span", "id below");
  below.dir = "auto";
  below.hidden = true;
  return [link, below];
};

// Shows a video, or nothing yet. Whether another one is shown than before.
export const showName = ([link, below], video, href) => {
  const title = video?.title ?? "";
  const moved = setText(link, video ? title || video.video_id : "…");
  setText(below, title ? video.video_id : "");
  below.hidden = !title;
  setAttribute(link, "class", title ? "title" : "id");
  if (video) setAttribute(link, "href", href);
  else link.removeAttribute("href");
  // What is cut off can be read.
  if (video) setAttribute(link, "title", title ? `${title}\n${video.video_id}` : video.video_id);
  else link.removeAttribute("title");
  return moved;
};
