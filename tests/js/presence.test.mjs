import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { clients, isSince } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { Example } from "./support/example.mjs";
import { ok } from "./support/messages.mjs";
import { Room } from "./support/room.mjs";
import { Roster, metasOf } from "./support/roster.mjs";
import { AT_ONCE, ONE_BY_ONE, testIn } from "./support/scenario.mjs";

const LONG_POLLS = "1.3.0";

const ONLINE = { status: "online", device: { name: "Telefön 🦀", tags: [1, null] } };
const AWAY = { status: "away" };
const FIRST_TAB = { tab: 1 };
const SECOND_TAB = { tab: 2 };

const server = await Example.create("conformance");

before(() => server.start());

after(() => server.stop());

describe("side by side", AT_ONCE, () => {
  for (const client of clients) {
    describe(`phoenix.js ${client.version}`, ONE_BY_ONE, () => {
      scenario("lists two users, with their tabs and changes, until they go", async (room) => {
        const ann = await arrive(room, client, "ann", FIRST_TAB);
        await everyoneLists([ann], { ann: [FIRST_TAB] });

        const bob = await arrive(room, client, "bob", ONLINE);
        await everyoneLists([ann, bob], { ann: [FIRST_TAB], bob: [ONLINE] });

        const tab = await arrive(room, client, "ann", SECOND_TAB);
        await everyoneLists([ann, bob, tab], { ann: [FIRST_TAB, SECOND_TAB], bob: [ONLINE] });

        assert.deepEqual(await bob.ask("update", AWAY), ok({}));
        await everyoneLists([ann, bob, tab], { ann: [FIRST_TAB, SECOND_TAB], bob: [AWAY] });

        assert.deepEqual(await tab.ask("untrack", {}), ok({}));
        await everyoneLists([ann, bob, tab], { ann: [FIRST_TAB], bob: [AWAY] });

        bob.connection.disconnect();
        await everyoneLists([ann, tab], { ann: [FIRST_TAB] });

        tab.leave();
        assert.deepEqual(await ann.ask("untrack", {}), ok({}));
        await everyoneLists([ann], {});

        assert.deepEqual(ann.diffs.map(keysOf), [
          { joins: ["ann"], leaves: [] },
          { joins: ["bob"], leaves: [] },
          { joins: ["ann"], leaves: [] },
          { joins: ["bob"], leaves: ["bob"] },
          { joins: [], leaves: ["ann"] },
          { joins: [], leaves: ["bob"] },
          { joins: [], leaves: ["ann"] },
        ]);
      });

      scenario("links an update to what it replaces", async (room) => {
        const ann = await arrive(room, client, "ann", ONLINE);

        await ann.ask("update", AWAY);
        await everyoneLists([ann], { ann: [AWAY] });

        const [tracked, { joins, leaves }] = ann.diffs;
        const [was] = tracked.joins.ann.metas;
        const [is] = joins.ann.metas;
        assert.deepEqual(leaves, { ann: { metas: [was] } });
        assert.deepEqual(is, { ...AWAY, phx_ref: is.phx_ref, phx_ref_prev: was.phx_ref });
        assert.notEqual(is.phx_ref, was.phx_ref);
        assert.equal(ann.diffs.length, 2);
      });

      scenario("refuses the update of somebody who is not tracked", async (room) => {
        const ann = await arrive(room, client, "ann", ONLINE);
        const bob = await arrive(room, client, "bob", ONLINE);
        await ann.ask("untrack", {});
        await everyoneLists([ann, bob], { bob: [ONLINE] });

        assert.deepEqual(await ann.ask("untrack", {}), ok({}));
        const { status, response } = await ann.ask("update", AWAY);

        assert.equal(status, "error");
        assert.match(response.reason, /\w/);
        await everyoneLists([ann, bob], { bob: [ONLINE] });
        assert.equal(bob.diffs.length, 2, "only Bob's own join and Ann's untrack");
      });

      scenario("sees somebody whose connection is cut leave and come back", async (room) => {
        const ann = await arrive(room, client, "ann", ONLINE);
        const bob = await arrive(room, client, "bob", ONLINE);
        await everyoneLists([ann, bob], { ann: [ONLINE], bob: [ONLINE] });

        bob.connection.cut();
        await everyoneLists([ann], { ann: [ONLINE] });
        await bob.hears("states", 2);
        await everyoneLists([ann, bob], { ann: [ONLINE], bob: [ONLINE] });

        assert.deepEqual(ann.diffs.map(keysOf), [
          { joins: ["ann"], leaves: [] },
          { joins: ["bob"], leaves: [] },
          { joins: [], leaves: ["bob"] },
          { joins: ["bob"], leaves: [] },
        ]);
      });

      if (isSince(client, LONG_POLLS)) {
        scenario("lists a long-polling user and is listed to it", async (room) => {
          const ann = await arrive(room, client, "ann", ONLINE);
          const bob = await arrive(room, client, "bob", ONLINE, { transport: client.LongPoll });
          await everyoneLists([ann, bob], { ann: [ONLINE], bob: [ONLINE] });

          assert.deepEqual(await ann.ask("update", AWAY), ok({}));
          await everyoneLists([ann, bob], { ann: [AWAY], bob: [ONLINE] });
          assert.deepEqual(await bob.ask("update", AWAY), ok({}));
          await everyoneLists([ann, bob], { ann: [AWAY], bob: [AWAY] });

          bob.leave();
          await everyoneLists([ann], { ann: [AWAY] });
        });
      }

      function scenario(name, steps) {
        testIn(() => new Room(client.version, server.socketUrl, "presence"), name, steps);
      }
    });
  }
});

/** Joins as `key` and resolves to the member, with its `roster`, once it was told who is there. */
async function arrive(room, client, key, meta, options) {
  const name = meta.tab ? `${key}, tab ${meta.tab}` : key;
  const member = room.connect(client, name, options).member(room.topic, { key, meta });
  member.roster = new Roster(client, member.channel);
  assert.deepEqual(await member.join(), ok({}));
  await member.hears("states", 1);
  return member;
}

/** Waits until all the members' lists are as expected, and stay so when everything has arrived. */
async function everyoneLists(members, expected) {
  const isRight = ({ roster }) => isDeepStrictEqual(roster.list, expected);
  await until("the lists to become right", () => members.every(isRight)).catch(() => {});
  for (const member of members) {
    const { response } = await member.ask("list", {});
    assert.deepEqual(member.roster.list, expected);
    assert.deepEqual(metasOf(response), expected);
  }
}

function keysOf({ joins, leaves }) {
  return { joins: Object.keys(joins), leaves: Object.keys(leaves) };
}
