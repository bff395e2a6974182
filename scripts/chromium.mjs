// A Chromium of its own, without a window, for the scripts that look at the page: by its DevTools protocol.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// As the tests start it; it writes to `home` alone.
const OPTIONS = [
  "--headless", "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
  "--window-size=1440,900",
];

// $CHROME, or chromium. `onEvent` hears the events of all tabs. Rejects where it cannot be started.
export const startChromium = async (onEvent = () => {}) => {
  const home = mkdtempSync(join(tmpdir(), "chromium-"));
  const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home };
  const child = spawn(process.env.CHROME ?? "chromium", [...OPTIONS, `--user-data-dir=${home}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"], env });
  const ended = new Promise((done) => child.on("exit", done));
  const address = await new Promise((found, failed) => {
    let said = "";
    child.on("error", ({ message }) => failed(new Error(`cannot start Chromium: ${message}; set CHROME`)));
    child.on("exit", () => failed(new Error(`Chromium has ended: ${said}`)));
    child.stderr.on("data", (data) => {
      said += data;
      const match = /ws:\/\/\S+/.exec(said);
      if (match) found(match[0]);
    });
  });
  const socket = new WebSocket(address);
  await new Promise((open) => (socket.onopen = open));
  let asked = 0;
  const waiting = new Map();
  socket.onmessage = ({ data }) => {
    const { id, method, params, result, error } = JSON.parse(data);
    if (!id) return onEvent(method, params);
    waiting.get(id)?.(error ?? result);
    waiting.delete(id);
  };
  const call = (method, params = {}, sessionId = undefined) => new Promise((answered) => {
    asked += 1;
    waiting.set(asked, answered);
    socket.send(JSON.stringify({ id: asked, method, params, sessionId }));
  });
  // A tab at `url`, looked at however many there are: what calls its methods.
  const open = async (url) => {
    const { targetId } = await call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
    const tab = (method, params) => call(method, params, sessionId);
    for (const domain of ["Network", "Performance", "Page"]) await tab(`${domain}.enable`);
    await tab("Emulation.setFocusEmulationEnabled", { enabled: true });
    await tab("Page.navigate", { url });
    return tab;
  };
  const end = async () => {
    child.kill();
    await ended;
    rmSync(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  };
  return { home, open, end };
};
