import { createRequire } from "node:module";

import "./browser.mjs";

// A disconnect of 1.5 lets the heartbeat timer run on: the test process ends only after two intervals.
export const HEARTBEAT_MS = 3_000;

const require = createRequire(import.meta.url);
const { dependencies } = require("../package.json");

/**
 * Every phoenix client that package.json names, oldest first: `{ version, vsn, Socket, LongPoll, Presence }`.
 *
 * All of them load as CommonJS, as long as each Socket is given a transport: only without one they reach for
 * `window.WebSocket`.
 */
export const clients = Object.entries(dependencies)
  .filter(([alias]) => alias.startsWith("phoenix-"))
  .map(([alias, source]) => loadClient(alias, source.replace("npm:phoenix@", "")));

export const newest = clients.at(-1);

/** Whether the client is of that version or a later one. */
export function isSince(client, version) {
  return client.version.localeCompare(version, "en", { numeric: true }) >= 0;
}

export function clientsSince(version) {
  return clients.filter((client) => isSince(client, version));
}

/** Disconnects for good. A disconnect of the old clients leaves timers running, which would never end. */
export function disconnect(socket) {
  socket.disconnect();
  socket.reconnectTimer.reset();
  clearInterval(socket.heartbeatTimer);
}

function loadClient(alias, version) {
  const { Socket, LongPoll, Presence } = require(alias);
  const vsn = version.startsWith("1.2.") ? "1.0.0" : "2.0.0";
  return { version, vsn, Socket, LongPoll, Presence };
}
