import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { dependencies } = require("../package.json");

/**
 * Every phoenix client that package.json names, oldest first: `{ version, vsn, Socket }`.
 *
 * All of them load as CommonJS without a browser, as long as each Socket is given a transport: only
 * without one they reach for `window.WebSocket`.
 */
export const clients = Object.entries(dependencies)
  .filter(([alias]) => alias.startsWith("phoenix-"))
  .map(([alias, source]) => loadClient(alias, source.replace("npm:phoenix@", "")));

function loadClient(alias, version) {
  const { Socket } = require(alias);
  return { version, vsn: version.startsWith("1.2.") ? "1.0.0" : "2.0.0", Socket };
}
