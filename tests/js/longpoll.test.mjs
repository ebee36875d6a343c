import assert from "node:assert/strict";
import { after, before, describe } from "node:test";

import WebSocket from "ws";

import { clientsSince, isSince, newest } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { Example } from "./support/example.mjs";
import { INTRICATE, bytes, error, manyBytes, numbered, ok } from "./support/messages.mjs";
import { Proxy } from "./support/proxy.mjs";
import { Room, everyoneHears } from "./support/room.mjs";
import { AT_ONCE, ONE_BY_ONE, testIn } from "./support/scenario.mjs";

// Older clients make a request for every push, all at the same time, which promises no order.
const BATCHES = "1.7.0";
const UPLOADS_BINARY = "1.7.7";
const FALLS_BACK = "1.7.11";

const FALLBACK_MS = 1_500;
const PATIENT_FALLBACK_MS = 5_000;
const FALLBACK_MARK = "phx:fallback:LongPoll";

const NO_CONTENT = 204;
const POLL_DEADLINE_MS = 15_000;

const server = await Example.create("conformance");

before(() => server.start());

after(() => server.stop());

describe("side by side", AT_ONCE, () => {
  for (const client of clientsSince("1.3.0")) {
    const polling = { transport: client.LongPoll };
    const inOrder = isSince(client, BATCHES);

    describe(`phoenix.js ${client.version} long-polling`, ONE_BY_ONE, () => {
      scenario("joins and gets what the channel pushes after the join, in order", async (room) => {
        const params = { want_reply: true, push_after_join: 5, intricate: INTRICATE };
        const ann = room.connect(client, "Ann", polling).member(room.topic, params);

        assert.deepEqual(await ann.join(), ok({ params }));
        await everyoneHears([ann], "welcomes", 5);

        assert.equal(ann.connection.transport, client.LongPoll);
        assert.equal(ann.state, "joined");
        assert.deepEqual(ann.welcomes, [0, 1, 2, 3, 4].map((i) => ({ i })));
      });

      scenario("gets ok and error replies with the payload of the push", async (room) => {
        const ann = await room.enter(client, "Ann", polling);

        assert.deepEqual(await ann.ask("echo", INTRICATE), ok(INTRICATE));
        assert.deepEqual(await ann.ask("reply_error", INTRICATE), error(INTRICATE));
        assert.deepEqual(await ann.ask("async_reply", INTRICATE), ok(INTRICATE));
      });

      scenario("gets an error for the join of an unmatched topic", async (room) => {
        const lost = room.connect(client, "Ann", polling).member("nowhere:lobby");

        assert.deepEqual(await lost.join(), error({ reason: "unmatched topic" }));
      });

      scenario("hears a WebSocket client and is heard by it, once and in order", async (room) => {
        const ann = await room.enter(client, "Ann", polling);
        const bob = await room.enter(client, "Bob");
        const fromBob = numbered(40).map((payload) => ({ ...payload, from: "Bob" }));
        const fromAnn = numbered(40).map((payload) => ({ ...payload, from: "Ann" }));
        const answer = { from: "Bob", message: "goodbye" };

        for (const payload of fromBob) bob.tell("broadcast", payload);
        await everyoneHears([ann, bob], "broadcasts", fromBob.length);
        for (const [index, payload] of fromAnn.entries()) {
          ann.tell("broadcast", payload);
          if (!inOrder) await bob.hears("broadcasts", fromBob.length + index + 1);
        }
        await everyoneHears([ann, bob], "broadcasts", fromBob.length + fromAnn.length);
        bob.tell("broadcast", answer);
        bob.tell("broadcast_from", answer);
        await everyoneHears([ann], "broadcastsOfOthers", 1);
        await bob.settles();

        assert.deepEqual(ann.broadcasts, [...fromBob, ...fromAnn, answer]);
        assert.deepEqual(bob.broadcasts, [...fromBob, ...fromAnn, answer]);
        assert.deepEqual(ann.broadcastsOfOthers, [answer]);
        assert.deepEqual(bob.broadcastsOfOthers, []);
      });

      scenario("gets the replies to 150 pushes made at once", async (room) => {
        const ann = await room.enter(client, "Ann", polling);
        const payloads = numbered(150);

        const replies = await Promise.all(payloads.map((payload) => ann.ask("echo", payload)));

        assert.deepEqual(replies, payloads.map(ok));
        const [, ...arrived] = ann.connection.framesOf(room.topic, "phx_reply");
        const numbers = arrived.map(({ payload }) => payload.response.number);
        if (!inOrder) numbers.sort((a, b) => a - b);
        assert.deepEqual(numbers, payloads.map(({ number }) => number));
      });

      scenario("hears nothing after a leave and can join again", async (room) => {
        const [earlier, meanwhile, later] = numbered(3);
        const ann = await room.enter(client, "Ann", polling);
        const bob = await room.enter(client, "Bob");
        const { connection } = ann;
        bob.tell("broadcast", earlier);
        await everyoneHears([ann, bob], "broadcasts", 1);

        ann.leave();
        await ann.hears("closes", 1);
        // The client closes its channel without waiting for the server.
        await until("phx_close", () => connection.framesOf(room.topic, "phx_close").length > 0);
        bob.tell("broadcast", meanwhile);
        await everyoneHears([bob], "broadcasts", 2);

        const returned = connection.member(room.topic);
        assert.deepEqual(await returned.join(), ok({}));
        bob.tell("broadcast", later);
        await everyoneHears([bob], "broadcasts", 3);
        await everyoneHears([returned], "broadcasts", 1);

        assert.deepEqual(ann.broadcasts, [earlier]);
        assert.deepEqual(returned.broadcasts, [later]);
        assert.deepEqual(returned.closes, []);
        const sent = connection.framesOf(room.topic, "bcast").map(({ payload }) => payload);
        assert.deepEqual(sent, [earlier, later]);
        assert.equal(connection.framesOf(room.topic, "phx_close").length, 1);
      });

      // The server cannot send binary data to a long-polling client: what would is the channel's error.
      scenario("sees its channel crash on a binary push, and joins again", async (room) => {
        const ann = await room.enter(client, "Ann", polling);
        assert.deepEqual(await ann.ask("count", {}), ok({ count: 1 }));
        assert.deepEqual(await ann.ask("count", {}), ok({ count: 2 }));

        ann.tell("push_binary", {});
        await rejoins(ann);

        assert.deepEqual(await ann.ask("count", {}), ok({ count: 1 }));
        assert.deepEqual(ann.binaries, []);
      });

      scenario("does not hear a binary broadcast, and nobody suffers from it", async (room) => {
        const [earlier, later] = numbered(2);
        const ann = await room.enter(client, "Ann", polling);
        const bob = await room.enter(newest, "Bob");

        bob.tell("broadcast", earlier);
        bob.tell("broadcast", bytes(0, 1, 0xfe, 0xff));
        bob.tell("broadcast", later);
        await everyoneHears([bob], "broadcasts", 3);
        await everyoneHears([ann], "broadcasts", 2);

        assert.deepEqual(bob.broadcasts, [earlier, bytes(0, 1, 0xfe, 0xff), later]);
        assert.deepEqual(ann.broadcasts, [earlier, later]);
        assert.deepEqual([ann.errors, bob.errors], [[], []]);
      });

      if (isSince(client, UPLOADS_BINARY)) {
        scenario("uploads binary data, in order with text", async (room) => {
          const ann = await room.enter(client, "Ann", polling);
          const bob = await room.enter(client, "Bob");
          const payloads = [manyBytes(256), { number: 1 }, bytes(), bytes(0x5b), manyBytes(100_000), { number: 2 }];

          assert.deepEqual(await ann.ask("count", manyBytes(256)), ok({ count: 1 }));
          for (const payload of payloads) ann.tell("broadcast_from", payload);
          await everyoneHears([bob], "broadcastsOfOthers", payloads.length);
          await ann.settles();

          assert.deepEqual(bob.broadcastsOfOthers, payloads);
          assert.deepEqual(ann.errors, []);
        });

        scenario("sees its channel crash on a binary reply, and joins again", async (room) => {
          const ann = await room.enter(client, "Ann", polling);
          assert.deepEqual(await ann.ask("count", {}), ok({ count: 1 }));

          ann.tell("echo", bytes(1, 2, 3));
          await rejoins(ann);

          assert.deepEqual(await ann.ask("count", {}), ok({ count: 1 }));
        });
      }

      function scenario(name, steps) {
        testIn(openRoom, name, async (room) => {
          await steps(room);
          assert.deepEqual(room.closeCodes, [], "no connection was lost");
        });
      }

      async function rejoins(member) {
        await member.hears("errors", 1);
        await until("the rejoin", () => member.state === "joined");
        await member.settles();
        assert.equal(member.connection.framesOf(member.channel.topic, "phx_error").length, 1);
        assert.equal(member.errors.length, 1);
        assert.deepEqual(member.closes, []);
      }
    });

    testIn(openRoom, `phoenix.js ${client.version} polls on after a poll without messages`, async (room) => {
      const ann = await room.enter(client, "Ann", polling);
      const bob = await room.enter(client, "Bob");
      const { connection } = ann;

      const emptyPolls = () => connection.polls.filter(({ status }) => status === NO_CONTENT);
      await until("an empty poll", () => emptyPolls().length > 0, POLL_DEADLINE_MS);
      bob.tell("broadcast", INTRICATE);
      await everyoneHears([ann], "broadcasts", 1);

      assert.deepEqual(ann.broadcasts, [INTRICATE]);
      assert.deepEqual(emptyPolls()[0].messages, []);
      assert.deepEqual(connection.closeCodes, []);
    });

    function openRoom() {
      return new Room(client.version, server.socketUrl, "conf");
    }
  }

  for (const client of clientsSince(FALLS_BACK)) {
    describe(`phoenix.js ${client.version} with longPollFallbackMs`, ONE_BY_ONE, () => {
      scenario("long-polls when WebSocket is swallowed, and remembers it", async (room, t) => {
        const proxy = await Proxy.start(server.port);
        t.after(() => proxy.close());
        const sessionStorage = new SessionStorage();
        const options = { socketUrl: proxy.socketUrl, longPollFallbackMs: FALLBACK_MS, sessionStorage };

        const bob = await room.enter(client, "Bob");
        const ann = await room.enter(client, "Ann", options);
        assert.equal(ann.connection.transport, client.LongPoll);
        assert.equal(proxy.swallowed, 1);
        await chat(ann, bob);
        assert.equal(sessionStorage.getItem(FALLBACK_MARK), "true");

        const again = await room.enter(client, "Ann again", options);
        assert.equal(again.connection.transport, client.LongPoll);
        assert.equal(proxy.swallowed, 1);
        await chat(again, bob);
      });

      scenario("stays with a WebSocket that answers its ping before any join", async (room) => {
        const sessionStorage = new SessionStorage();
        const options = { longPollFallbackMs: PATIENT_FALLBACK_MS, sessionStorage };
        const connection = room.connect(client, "Ann", options);

        await until("the answer", () => connection.framesOf("phoenix", "phx_reply").length > 0);
        assert.equal(connection.primaryPassedHealthCheck, true);
        const ann = connection.member(room.topic);
        assert.deepEqual(await ann.join(), ok({}));
        await ann.settles();

        assert.equal(connection.transport, WebSocket);
        assert.equal(sessionStorage.getItem(FALLBACK_MARK), null);
        assert.deepEqual(connection.closeCodes, []);
      });

      async function chat(ann, bob) {
        const [question, answer] = [{ from: "Ann" }, { from: "Bob", ...INTRICATE }];
        const before = bob.broadcasts.length;

        ann.tell("broadcast", question);
        await bob.hears("broadcasts", before + 1);
        bob.tell("broadcast", answer);
        await everyoneHears([ann], "broadcasts", 2);
        await bob.settles();

        assert.deepEqual(ann.broadcasts, [question, answer]);
        assert.deepEqual(bob.broadcasts.slice(before), [question, answer]);
      }

      function scenario(name, steps) {
        testIn(() => new Room(client.version, server.socketUrl, "conf"), name, steps);
      }
    });
  }
});

class SessionStorage {
  #items = new Map();

  getItem(key) {
    return this.#items.get(key) ?? null;
  }

  setItem(key, value) {
    this.#items.set(key, value);
  }
}
