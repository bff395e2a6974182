// Listens for all pages of a browser where they have no locks: share.js starts it. It ends with the last page.

import { Events } from "./net.js";

// A page says once a second that it is there; one that was killed says nothing.
const GONE_MS = 10_000;

// When each page was heard, by its port.
const pages = new Map();

const tell = (text) => pages.forEach((at, port) => port.postMessage(text));
const events = new Events(tell);

const hear = (port) => {
  if (pages.size === 0) events.open();
  pages.set(port, performance.now());
};

const leave = (port) => {
  if (pages.delete(port) && pages.size === 0) events.close();
};

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => (data === "close" ? leave(port) : hear(port));
  hear(port);
});

setInterval(() => {
  pages.forEach((at, port) => performance.now() - at > GONE_MS && leave(port));
  events.check();
  tell("");
}, 1000);
