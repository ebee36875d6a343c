// Frontends of similar chat applications, unchanged, with a config file and no code on the server's side.

import assert from "node:assert/strict";
import { after, before, describe } from "node:test";

import { clients } from "./support/clients.mjs";
import { Room, everyoneHears } from "./support/room.mjs";
import { AT_ONCE, testIn } from "./support/scenario.mjs";
import { Server } from "./support/server.mjs";

const SHOUTS = [
  { name: "Ann", message: "first" },
  { name: "", message: "second", colour: "#f0f" },
];

const server = await Server.create({
  config: `
    [[rooms]]
    topics = "wall:*"
    history = "per_event"
  `,
});

before(() => server.start());

after(async () => {
  const ending = await server.stop();
  await server.remove();
  assert.deepEqual(ending, { code: 0, signal: null });
});

describe("a room whose history is one shout a row", AT_ONCE, () => {
  for (const client of clients) {
    const openRoom = () => new Room(client.version, server.socketUrl, "wall");

    testIn(openRoom, `phoenix.js ${client.version} appends the messages in order`, async (room) => {
      const ann = await room.enter(client, "Ann");
      for (const payload of SHOUTS) ann.shout(payload);
      await everyoneHears([ann], "shouts", SHOUTS.length);

      const bob = await room.enter(client, "Bob");
      await everyoneHears([bob], "shouts", SHOUTS.length);

      assert.deepEqual(ann.shouts, SHOUTS);
      assert.deepEqual(bob.shouts, SHOUTS);
      assert.deepEqual(bob.histories, []);
    });
  }
});
