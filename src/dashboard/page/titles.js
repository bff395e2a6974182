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
