import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe } from "node:test";
import { promisify } from "node:util";

import WebSocket from "ws";

import { clientsSince } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { Example } from "./support/example.mjs";
import { ok } from "./support/messages.mjs";
import { Room } from "./support/room.mjs";
import { AT_ONCE, ONE_BY_ONE, testIn } from "./support/scenario.mjs";
import { BINARY } from "./support/server.mjs";

const AUTH_TOKEN = "1.8.0";

const SECRET = "a secret of at least twenty bytes";
const ANOTHER_SECRET = "another secret of twenty bytes or more";

// The timer of a join that is not answered keeps the test process alive.
const ABANDONED_MS = 100;

const server = await Example.create("auth_token", ["--secret-key-base", SECRET]);

before(() => server.start());

after(() => server.stop());

describe("side by side", AT_ONCE, () => {
  for (const client of clientsSince(AUTH_TOKEN)) {
    const transports = { WebSocket, LongPoll: client.LongPoll };
    for (const [transportName, transport] of Object.entries(transports)) {
      describe(`phoenix.js ${client.version} with an authToken over ${transportName}`, ONE_BY_ONE, () => {
        // Requirements 34, 39.
        scenario("is known by its token, which its URL does not tell", async (room) => {
          const [authToken, another] = await Promise.all([sign("ada"), sign("Zoë 🦀")]);
          const ada = await room.enter(client, "Ada", { transport, authToken });
          const zoe = await room.enter(client, "Zoë", { transport, authToken: another });

          assert.equal(ada.connection.transport, transport);
          assert.deepEqual(await ada.ask("whoami", {}), ok({ user: "ada" }));
          assert.deepEqual(await zoe.ask("whoami", {}), ok({ user: "Zoë 🦀" }));
          assert.ok(!ada.connection.url.includes(authToken));
          assert.deepEqual(room.closeCodes, []);
        });

        scenario("is refused with a token that was changed", async (room) => {
          const token = await sign("ada");
          await isRefused(room, token.replace(/.$/, (last) => (last === "A" ? "E" : "A")));
        });

        scenario("is refused with a token of another secret", async (room) => {
          await isRefused(room, await sign("ada", { secret: ANOTHER_SECRET }));
        });

        scenario("is refused with a token for something else", async (room) => {
          await isRefused(room, await sign("ada", { options: ["--salt", "password reset"] }));
        });

        scenario("is refused with a token that has expired", async (room) => {
          await isRefused(room, await sign("ada", { options: ["--max-age", "0.001"] }));
        });

        scenario("is refused without a token", async (room) => {
          await isRefused(room, undefined);
        });

        async function isRefused(room, authToken) {
          const connection = room.connect(client, "Mallory", { transport, authToken });
          const member = connection.member(room.topic);
          member.startJoin(ABANDONED_MS);

          await until("the refusal", () => connection.closeCodes.length > 0);

          assert.match(String(connection.failures[0]), /\b403$/);
          assert.notEqual(member.state, "joined");
          assert.deepEqual(connection.frames, []);
        }
      });
    }

    function scenario(name, steps) {
      testIn(() => new Room(client.version, server.socketUrl, "room"), name, steps);
    }
  }
});

/** A token made by `slackir token sign`. */
async function sign(user, { secret = SECRET, options = [] } = {}) {
  const args = ["token", "sign", "--secret-key-base", secret, ...options, user];
  const { stdout } = await promisify(execFile)(BINARY, args);
  return stdout.trim();
}
