import assert from "node:assert/strict";
import { after, before, describe } from "node:test";

import { clients, clientsSince, isSince } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { Example } from "./support/example.mjs";
import { bytes, error, manyBytes, numbered, ok } from "./support/messages.mjs";
import { Room, everyoneHears } from "./support/room.mjs";
import { AT_ONCE, ONE_BY_ONE, testIn } from "./support/scenario.mjs";

const BINARY_SINCE = "1.5.7";

// Older clients speak vsn 1.0.0, where a phx_close does not say which join it ends.
const KNOWS_ITS_CLOSE = "1.3.0";

// A leave of 1.3 lets the timer of the join run on, which keeps the test process alive.
const ABANDONED_MS = 100;

/** What the application answers to reply_binary, and pushes on push_binary. */
const FOUR_BYTES = bytes(0, 1, 0xfe, 0xff);

const server = await Example.create("conformance");

before(() => server.start());

after(() => server.stop());

describe("side by side", AT_ONCE, () => {
  for (const client of clientsSince(BINARY_SINCE)) {
    describe(`phoenix.js ${client.version} with binary frames`, ONE_BY_ONE, () => {
      for (const payload of [manyBytes(256), bytes(), manyBytes(125), manyBytes(100_000)]) {
        scenario(`gets ${payload.byteLength} pushed bytes back`, async (room) => {
          const ann = await room.enter(client, "Ann");

          assert.deepEqual(await ann.ask("echo", payload), ok(payload));
        });
      }

      scenario("gets bytes with an error reply, and with a late one", async (room) => {
        const ann = await room.enter(client, "Ann");

        assert.deepEqual(await ann.ask("reply_error", FOUR_BYTES), error(FOUR_BYTES));
        assert.deepEqual(await ann.ask("async_reply", FOUR_BYTES), ok(FOUR_BYTES));
      });

      scenario("gets bytes for text and text for bytes", async (room) => {
        const ann = await room.enter(client, "Ann");

        assert.deepEqual(await ann.ask("reply_binary", {}), ok(FOUR_BYTES));
        assert.deepEqual(await ann.ask("count", FOUR_BYTES), ok({ count: 1 }));
      });

      scenario("gets the bytes that the server pushes, alone", async (room) => {
        const ann = await room.enter(client, "Ann");
        const bob = await room.enter(client, "Bob");

        ann.tell("push_binary", {});
        await everyoneHears([ann], "binaries", 1);
        await bob.settles();

        assert.deepEqual(ann.binaries, [FOUR_BYTES]);
        assert.deepEqual(bob.binaries, []);
      });

      scenario("broadcasts bytes to both members, once and in order with text", async (room) => {
        const ann = await room.enter(client, "Ann");
        const bob = await room.enter(client, "Bob");
        const payloads = [FOUR_BYTES, { number: 1 }, bytes(), manyBytes(100_000), { number: 2 }];

        for (const payload of payloads) ann.tell("broadcast", payload);
        ann.tell("broadcast_from", FOUR_BYTES);
        await everyoneHears([bob], "broadcastsOfOthers", 1);
        await ann.settles();

        assert.deepEqual(ann.broadcasts, payloads);
        assert.deepEqual(bob.broadcasts, payloads);
        assert.deepEqual(ann.broadcastsOfOthers, []);
        assert.deepEqual(bob.broadcastsOfOthers, [FOUR_BYTES]);
      });

      scenario("gets the replies to text and bytes in the order of the pushes", async (room) => {
        const ann = await room.enter(client, "Ann");
        const payloads = numbered(60).map((payload, index) => (index % 2 ? bytes(index) : payload));

        const replies = await Promise.all(payloads.map((payload) => ann.ask("echo", payload)));

        assert.deepEqual(replies, payloads.map(ok));
        const [, ...arrived] = ann.connection.framesOf(room.topic, "phx_reply");
        assert.deepEqual(arrived.map(({ payload }) => payload.response), payloads);
      });

      function scenario(name, steps) {
        testIn(openRoom, name, steps);
      }
    });

    function openRoom() {
      return new Room(client.version, server.socketUrl, "conf");
    }
  }

  for (const client of clients) {
    const knowsItsClose = isSince(client, KNOWS_ITS_CLOSE);

    describe(`phoenix.js ${client.version} in a hurry`, ONE_BY_ONE, () => {
      // Requirement 184.
      whenKnown("ends joined by the later of two channels that join at once", async (room) => {
        const connection = await connected(room);
        const first = connection.member(room.topic);
        const second = connection.member(room.topic);

        first.startJoin();
        assert.deepEqual(await second.join(), ok({}));
        await first.hears("closes", 1);

        await staysJoined(second, room);
        assert.equal(first.state, "closed");
        assert.deepEqual(first.broadcasts, []);
      });

      whenKnown("ends joined by its later channel after a duplicate join", async (room) => {
        const bob = await room.enter(client, "Bob");
        const first = await room.enter(client, "Ann");
        assert.deepEqual(await first.ask("count", {}), ok({ count: 1 }));
        const second = first.connection.member(room.topic, { want_reply: true });

        assert.deepEqual(await second.join(), ok({ params: { want_reply: true } }));
        await first.hears("closes", 1);
        assert.deepEqual(await second.ask("count", {}), ok({ count: 1 }));

        await staysJoined(second, room);
        await everyoneHears([bob], "broadcasts", 3);
        assert.deepEqual(first.broadcasts, []);
        assert.deepEqual(bob.closes, []);
      });

      // Requirement 184.
      scenario("is out of the topic after a leave during the join", async (room) => {
        const bob = await room.enter(client, "Bob");
        const connection = await connected(room);
        const ann = connection.member(room.topic);

        ann.startJoin(ABANDONED_MS);
        ann.leave();
        await until("phx_close", () => connection.framesOf(room.topic, "phx_close").length > 0);
        bob.tell("broadcast", { meanwhile: true });
        await everyoneHears([bob], "broadcasts", 1);
        // What was sent before this answer has arrived.
        assert.deepEqual(await connection.member("nowhere:lobby").join(), error({ reason: "unmatched topic" }));

        assert.equal(ann.state, "closed");
        assert.deepEqual(ann.closes, ["closed"]);
        assert.deepEqual(connection.framesOf(room.topic, "bcast"), []);
      });

      // Requirement 184.
      whenKnown("joins again at once after a leave during the join", async (room) => {
        const connection = await connected(room);
        const first = connection.member(room.topic);
        const second = connection.member(room.topic);

        first.startJoin(ABANDONED_MS);
        first.leave();
        assert.deepEqual(await second.join(), ok({}));

        await staysJoined(second, room);
        assert.deepEqual(first.closes, ["closed"]);
        assert.deepEqual(first.broadcasts, []);
      });

      whenKnown("joins again after a leave during a join, all before it is connected", async (room) => {
        const connection = room.connect(client, "Ann");
        const first = connection.member(room.topic);
        const second = connection.member(room.topic);

        first.startJoin(ABANDONED_MS);
        first.leave();
        assert.deepEqual(await second.join(), ok({}));

        await staysJoined(second, room);
        assert.deepEqual(first.closes, ["closed"]);
        assert.deepEqual(first.broadcasts, []);
      });

      // Requirement 187.
      whenUnknown("loses both channels to a duplicate join, and joins again after a leave", async (room) => {
        const first = await room.enter(client, "Ann");
        const { connection } = first;
        const second = connection.member(room.topic);

        assert.deepEqual(await second.join(), ok({}));
        await Promise.all([first, second].map((member) => member.hears("closes", 1)));
        second.leave();
        await until("phx_close", () => connection.framesOf(room.topic, "phx_close").length > 1);
        const third = connection.member(room.topic);
        assert.deepEqual(await third.join(), ok({}));

        await staysJoined(third, room);
      });

      function whenKnown(name, steps) {
        if (knowsItsClose) scenario(name, steps);
      }

      function whenUnknown(name, steps) {
        if (!knowsItsClose) scenario(name, steps);
      }

      function scenario(name, steps) {
        testIn(() => new Room(client.version, server.socketUrl, "conf"), name, steps);
      }

      async function connected(room) {
        const connection = room.connect(client, "Ann");
        await until("the connection", () => connection.isConnected);
        return connection;
      }
    });
  }
});

/** Checks that the member, alone on its connection, hears its broadcasts once and is not closed. */
async function staysJoined(member, { topic }) {
  const payloads = numbered(3);
  for (const payload of payloads) member.tell("broadcast", payload);
  await everyoneHears([member], "broadcasts", payloads.length);

  assert.equal(member.state, "joined");
  assert.deepEqual(member.closes, []);
  assert.deepEqual(member.errors, []);
  assert.deepEqual(member.broadcasts, payloads);
  const frames = member.connection.framesOf(topic, "bcast");
  assert.deepEqual(frames.map(({ payload }) => payload), payloads);
  assert.deepEqual(member.connection.closeCodes, []);
}
