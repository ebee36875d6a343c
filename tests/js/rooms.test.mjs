// The example of docs/ROOMS.md: names, times, presence, typing and replies, by a config file alone.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";

import { HEARTBEAT_MS, clients, disconnect } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { Roster } from "./support/roster.mjs";
import { AT_ONCE, TIME_LIMIT } from "./support/scenario.mjs";
import { Server } from "./support/server.mjs";

const page = await readFile(new URL("../../docs/ROOMS.md", import.meta.url), "utf8");
const [, config] = page.match(/```toml\n([\s\S]*?)```/);

const server = await Server.create({ config });

before(() => server.start());

after(async () => {
  const ending = await server.stop();
  await server.remove();
  assert.deepEqual(ending, { code: 0, signal: null });
});

/** A person in a room, as the page's JavaScript makes one. */
async function enter(t, client, topic, name) {
  const socket = new client.Socket(server.socketUrl, {
    transport: WebSocket,
    params: { name },
    heartbeatIntervalMs: HEARTBEAT_MS,
  });
  socket.connect();
  t.after(() => disconnect(socket));
  const channel = socket.channel(topic, {});
  const person = { channel, roster: new Roster(client, channel), messages: [], history: undefined };
  channel.on("new_msg", (message) => person.messages.push(message));
  channel.on("messages_history", ({ messages }) => (person.history = messages));
  await new Promise((joined, refused) =>
    channel.join().receive("ok", joined).receive("error", refused),
  );
  return person;
}

describe("the rooms of docs/ROOMS.md", AT_ONCE, () => {
  for (const client of clients) {
    test(`phoenix.js ${client.version} sees who is there, who types, and who said what`, TIME_LIMIT, async (t) => {
      const topic = `room:${client.version}`;
      const ada = await enter(t, client, topic, "ada");
      const bob = await enter(t, client, topic, "bob");
      await until("both are there", () => "ada" in bob.roster.list && "bob" in ada.roster.list);

      ada.channel.push("typing", { on: true });
      await until("ada types", () => bob.roster.list.ada?.[0].typing === true);

      ada.channel.push("new_msg", { body: "hi", name: "root" });
      await until("bob hears it", () => bob.messages.length === 1);
      const [message] = bob.messages;
      assert.deepEqual(Object.keys(message).sort(), ["at", "body", "name"]);
      assert.equal(message.name, "ada", "nobody forges a name");
      assert.ok(Math.abs(Date.now() - message.at) < 60_000);

      const refusal = await new Promise((refused) =>
        ada.channel.push("new_msg", { body: "" }).receive("error", refused),
      );
      assert.deepEqual(refusal, { reason: "invalid payload", field: "body" });

      const carl = await enter(t, client, topic, "carl");
      await until("carl has the history", () => carl.history);
      assert.deepEqual(carl.history, [message]);
    });
  }
});
