import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { until } from "../../js/support/deadline.mjs";
import { Example } from "../../js/support/example.mjs";
import { INTRICATE, error, numbered, ok } from "../../js/support/messages.mjs";
import { clients } from "./visitors.mjs";

const TIME_LIMIT = { timeout: 60_000 };

const server = await Example.create("conformance");

before(() => server.start());

after(() => server.stop());

for (const [index, client] of clients.entries()) {
  describe(`${client.name} with vsn ${client.vsn}`, () => {
    scenario("speaks its protocol version, joins and leaves", async ({ visitor, topic }) => {
      const ann = visitor();

      assertReply(await ann.join(topic), ok({}));
      assert.equal(new URL(ann.url).searchParams.get("vsn"), client.vsn);
      assertReply(await ann.leave(), ok({}));
    });

    scenario("is told that it may not join", async ({ visitor }) => {
      assertReply(await visitor().join("conf:deny"), error({ reason: "unauthorized" }));
    });

    scenario("gets ok and error replies to its pushes", async ({ visitor, topic }) => {
      const ann = visitor();
      await ann.join(topic);

      const sent = { intricate: INTRICATE };
      assertReply(await ann.ask("echo", sent), ok(sent));
      assertReply(await ann.ask("reply_error", sent), error(sent));
    });

    scenario("hears what another client broadcasts, until it leaves", async ({ visitor, topic }) => {
      const [ann, bob] = [visitor(), visitor()];
      await Promise.all([ann.join(topic), bob.join(topic)]);
      const [toBoth, toBob, later] = numbered(3);

      bob.tell("broadcast", toBoth);
      await everybodyHears([ann, bob], 1);
      assertReply(await ann.leave(), ok({}));
      bob.tell("broadcast", toBob);
      await everybodyHears([bob], 2);
      assertReply(await ann.join(topic), ok({}));
      bob.tell("broadcast", later);
      await everybodyHears([bob], 3);
      await everybodyHears([ann], 2);

      assert.deepEqual(ann.broadcasts, [toBoth, later]);
      assert.deepEqual(bob.broadcasts, [toBoth, toBob, later]);
    });

    let opened = 0;

    function scenario(name, steps) {
      test(name, TIME_LIMIT, async (t) => {
        opened += 1;
        const visitor = () => {
          const opened = client.connect(server.socketUrl);
          t.after(() => opened.close());
          return opened;
        };
        await steps({ visitor, topic: `conf:client-${index}-${opened}` });
      });
    }
  });
}

/** Compares a reply with the expected one, as far as the client tells it. */
function assertReply({ status, response }, expected) {
  assert.equal(status, expected.status);
  if (response !== undefined) assert.deepEqual(response, expected.response);
}

/** Waits for `count` broadcasts to each, and then for whatever else is on its way. */
async function everybodyHears(visitors, count) {
  for (const visitor of visitors) {
    await until(`${count} broadcasts`, () => visitor.broadcasts.length >= count);
  }
  for (const visitor of visitors) {
    const { status } = await visitor.ask("echo", {});
    assert.equal(status, "ok");
  }
}
