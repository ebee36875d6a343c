// The JavaScript of docs/HISTORY.md, run as the page shows it against a server with its default room.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";

import { HEARTBEAT_MS, clients, disconnect, isSince, newest } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { AT_ONCE, TIME_LIMIT } from "./support/scenario.mjs";
import { Server } from "./support/server.mjs";

const page = await readFile(new URL("../../docs/HISTORY.md", import.meta.url), "utf8");
const blocks = [...page.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code);
const [RESUME, OLD_PARAMS, SEND, OLDER] = blocks;

/** The first block, changed for old versions of phoenix.js as the second one says. */
function resumeByObject() {
  const [params, channel, , changed] = OLD_PARAMS.split("\n");
  const code = RESUME.replace(/^let last = .*$/m, params)
    .replace(/^const channel = .*$/m, channel)
    .replaceAll(/\blast = ([\w.]+);/g, changed.replace("id;", "$1;"));
  assert.ok(!/\blast\b/.test(code), code);
  return code;
}

describe("the JavaScript of docs/HISTORY.md", AT_ONCE, () => {
  let server;
  const connect = (t, client = newest) => {
    const options = { transport: WebSocket, heartbeatIntervalMs: HEARTBEAT_MS };
    const socket = new client.Socket(server.socketUrl, options);
    t.after(() => disconnect(socket));
    socket.connect();
    return socket;
  };
  /** A second client, whose `say` resolves once the message is committed. */
  const speaker = (t, topic) => {
    const channel = connect(t).channel(topic, { history: "none", ack: true });
    channel.join();
    const say = (message) =>
      new Promise((resolve) => channel.push("shout", { name: "bob", message }).receive("ok", resolve));
    return { say };
  };

  before(async () => {
    // With a history of two messages, only a resume brings all that was missed.
    server = await Server.create({ config: "history_limit = 2\n" });
    await server.start();
  });
  after(() => server.remove());

  test("every block is run", () => assert.equal(blocks.length, 4));

  for (const client of clients) {
    test(`a client of version ${client.version} resumes`, TIME_LIMIT, async (t) => {
      const topic = `random:resume-${client.version}`;
      const bob = speaker(t, topic);
      await bob.say("before");
      const code = (isSince(client, "1.4") ? RESUME : resumeByObject()).replace("random:lobby", topic);
      const socket = connect(t, client);
      const seen = [];
      const show = ({ message }) => seen.push(message);
      const replaceAll = (messages) => seen.splice(0, seen.length, ...messages.map(({ message }) => message));
      new Function("socket", "show", "replaceAll", code)(socket, show, replaceAll);
      const sees = (expected) => until(`${expected}, not ${seen}`, () => seen.join() === expected.join());
      await sees(["before"]);
      await bob.say("live");
      await sees(["before", "live"]);
      // The network goes, and stays away until more was said than a history has.
      const { endPoint } = socket;
      socket.endPoint = endPoint.replace(/:\d+/, ":1");
      socket.conn.terminate();
      for (const message of ["one", "two", "three"]) await bob.say(message);
      socket.endPoint = endPoint;
      await sees(["before", "live", "one", "two", "three"]);
    });
  }

  test("a shout that is neither lost nor duplicated", TIME_LIMIT, async (t) => {
    const topic = "random:send";
    const socket = connect(t);
    const [code, joined] = SEND.split(/\n\n(?=socket\.channel)/);
    const real = new Function("socket", `return ${joined.replace("random:lobby", topic)}`)(socket);
    const heard = [];
    real.on("shout", ({ message }) => heard.push(message));
    real.join();
    // Its first shout is stored, and the reply tells the client nothing of that.
    const replies = [["error", { reason: "unconfirmed", retry_after_ms: 1 }], ["timeout"]];
    const channel = {
      push(event, payload) {
        const push = real.push(event, payload);
        const told = replies.shift();
        if (!told) return push;
        const silenced = {
          receive(status, tell) {
            if (status === told[0]) push.receive("ok", () => tell(told[1]));
            return silenced;
          },
        };
        return silenced;
      },
    };
    const sent = [];
    const refused = [];
    const globals = { channel, name: "ada", sent: (id) => sent.push(id), giveUp: (reason) => refused.push(reason) };
    const send = new Function(...Object.keys(globals), `${code}; return send`)(...Object.values(globals));
    send("hi");
    await until("the message to be sent", () => sent.length > 0);
    send("long".repeat(300_000));
    await until("a refusal", () => refused.length > 0);
    assert.deepEqual(refused, ["message too long"]);
    const bob = speaker(t, topic);
    await bob.say("end");
    await until("the last message", () => heard.includes("end"));
    assert.deepEqual(heard, ["hi", "end"]);
    assert.equal(sent.length, 1);
    assert.equal(replies.length, 0);
  });

  test("older messages, page by page", TIME_LIMIT, async (t) => {
    const topic = "random:older";
    const bob = speaker(t, topic);
    for (const message of ["one", "two", "three", "four", "five"]) await bob.say(message);
    const channel = connect(t).channel(topic, { meta: true });
    let messages = [];
    channel.on("messages_history", (history) => (messages = history.messages));
    channel.join();
    await until("the history", () => messages.length > 0);
    let isOldest = false;
    const prepend = (older) => (messages = [...older, ...messages]);
    const older = new Function("channel", "oldest", "prepend", "nothingOlder", OLDER);
    for (let seen = 0; !isOldest; ) {
      seen = messages.length;
      older(channel, messages[0], prepend, () => (isOldest = true));
      await until("a page", () => isOldest || messages.length > seen);
    }
    assert.deepEqual(messages.map(({ message }) => message), ["one", "two", "three", "four", "five"]);
  });
});
