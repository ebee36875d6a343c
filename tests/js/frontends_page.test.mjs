// The JavaScript of docs/FRONTENDS.md, run as the page shows it against a server with the page's configuration.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import WebSocket from "ws";

import { HEARTBEAT_MS, disconnect, newest } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { AT_ONCE, TIME_LIMIT } from "./support/scenario.mjs";
import { BINARY, Server } from "./support/server.mjs";

/** What each section's code shows, of what it shows in all. */
const SHOWN = {
  "Who is online": [[["ada", 1]]],
  "Who is typing": [[["ada", true]]],
  "Names from the token": [["Ada", "hi"]],
  "Only members may join": ["in"],
  "A private room for one user": [["Ada", "room:1"]],
  History: [["ada", "hi"]],
  "Announce joins and leaves": [["ada", "joined"]],
  "Renamed events": [["ada", "hi"]],
  "Refuse in words": ["no such seat", ["invalid payload", "body"], "only for admins"],
};

const page = await readFile(new URL("../../docs/FRONTENDS.md", import.meta.url), "utf8");
const sections = page.split("\n## ").slice(1);

const block = (text, language) => text.match(new RegExp("```" + language + "\\n([\\s\\S]*?)```"))?.[1];

/** The token that the section's command prints. */
async function token(section) {
  const command = block(section, "sh");
  if (!command) return undefined;
  const [, secret, data] = command.match(/--secret-key-base "(.*)" '(.*)'/);
  const args = ["token", "sign", "--secret-key-base", secret, data];
  const { stdout } = await promisify(execFile)(BINARY, args);
  return stdout.trim();
}

describe("the JavaScript of docs/FRONTENDS.md", AT_ONCE, () => {
  test("every section with JavaScript is run", () => {
    const titles = sections.filter((section) => block(section, "js frontend")).map((section) => section.split("\n")[0]);
    assert.deepEqual(titles, Object.keys(SHOWN));
  });

  for (const section of sections) {
    const [title] = section.split("\n");
    const code = block(section, "js frontend");
    if (!code) continue;
    describe(title, () => {
      let server;
      before(async () => {
        server = await Server.create({ config: block(section, "toml") });
        await server.start();
      });
      after(() => server.remove());

      test("shows what the page says", TIME_LIMIT, async (t) => {
        const shown = [];
        class Socket extends newest.Socket {
          constructor(path, options) {
            assert.equal(path, "/socket");
            super(server.socketUrl, { transport: WebSocket, heartbeatIntervalMs: HEARTBEAT_MS, ...options });
            t.after(() => disconnect(this));
          }
        }
        const socket = new Socket("/socket", { params: { name: "ada" } });
        socket.connect();
        const { Presence } = newest;
        const run = new Function("Socket", "Presence", "socket", "show", "TOKEN", `{ ${code} }`);
        run(Socket, Presence, socket, (value) => shown.push(JSON.stringify(value)), await token(section));
        const expected = SHOWN[title].map((value) => JSON.stringify(value));
        await until(`the page to show ${expected} among ${shown}`, () => expected.every((value) => shown.includes(value)));
      });
    });
  }
});
