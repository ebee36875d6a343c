// permessage-deflate between every phoenix.js and a server with `compress`, over Node's ws; and gzip over fetch.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";

import { HEARTBEAT_MS, clients, disconnect } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { AT_ONCE, TIME_LIMIT } from "./support/scenario.mjs";
import { Server } from "./support/server.mjs";

// ws compresses messages of a kilobyte and more.
const LENGTHS = [10, 600, 5_000, 200_000];

const server = await Server.create({ config: 'compress = "on"\n' });
const httpUrl = server.socketUrl.replace("ws:", "http:");

before(() => server.start());

after(async () => {
  const ending = await server.stop();
  await server.remove();
  assert.deepEqual(ending, { code: 0, signal: null });
});

const CHARACTERS = [..."room é €🦀 says it\n"];

/** Text of a chat, with characters of each length. */
function textOf(length) {
  return Array.from({ length }, (_, n) => CHARACTERS[(n * n) % CHARACTERS.length]).join("");
}

async function enter(t, client, topic, options) {
  class Transport extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, options);
    }
  }
  const socket = new client.Socket(server.socketUrl, { transport: Transport, heartbeatIntervalMs: HEARTBEAT_MS });
  socket.connect();
  t.after(() => disconnect(socket));
  const channel = socket.channel(topic, {});
  const member = { socket, channel, heard: [], history: undefined };
  channel.on("shout", ({ body }) => member.heard.push(body));
  channel.on("messages_history", ({ messages }) => (member.history = messages));
  await new Promise((joined, refused) => channel.join().receive("ok", joined).receive("error", refused));
  return member;
}

/** The metrics of compression. */
async function compression() {
  const text = await (await fetch(new URL("/metrics", httpUrl))).text();
  const value = (name) => Number(text.match(new RegExp(`^slackir_compression_${name}_bytes_total (\\d+)`, "m"))?.[1] ?? 0);
  return { input: value("input"), output: value("output") };
}

describe("compression", AT_ONCE, () => {
  for (const client of clients) {
    test(`phoenix.js ${client.version} sends and gets compressed messages`, TIME_LIMIT, async (t) => {
      const topic = `random:${client.version}`;
      const ann = await enter(t, client, topic, { perMessageDeflate: true });
      const bob = await enter(t, client, topic, { perMessageDeflate: { serverMaxWindowBits: 10, threshold: 0 } });
      const carl = await enter(t, client, topic, { perMessageDeflate: false });
      for (const member of [ann, bob]) assert.equal(member.socket.conn.extensions, "permessage-deflate");
      assert.equal(carl.socket.conn.extensions, "");

      const sent = LENGTHS.map(textOf);
      for (const body of sent) ann.channel.push("shout", { body });
      for (const body of sent) bob.channel.push("shout", { body });
      for (const member of [ann, bob, carl]) {
        await until("all messages", () => member.heard.length === 2 * sent.length);
        assert.deepEqual([...member.heard].sort(), [...sent, ...sent].sort());
      }
      const dave = await enter(t, client, topic, { perMessageDeflate: true });
      await until("the history", () => dave.history);
      assert.equal(dave.history.length, 2 * sent.length);
    });
  }

  test("fetch gets zipped answers to polls", TIME_LIMIT, async () => {
    const url = `${httpUrl}/longpoll?vsn=2.0.0`;
    const { token } = await (await fetch(url)).json();
    const polled = `${url}&token=${token}`;
    const topic = "random:polled";
    const body = textOf(3_000);
    for (const message of [["1", "1", topic, "phx_join", {}], ["1", "2", topic, "ping", { body }]]) {
      await fetch(polled, { method: "POST", body: JSON.stringify(message) });
    }
    let reply;
    while (!reply) {
      const answer = await fetch(polled);
      assert.equal(answer.headers.get("vary"), "accept-encoding");
      const { messages } = await answer.json();
      reply = messages.map((text) => JSON.parse(text)).find(([, ref]) => ref === "2");
      if (reply) assert.equal(answer.headers.get("content-encoding"), "gzip");
    }
    assert.equal(reply[4].response.body, body);
  });
});

test("the metrics show what compression saves", TIME_LIMIT, async () => {
  // Threads add their counts a few times a second.
  let counted;
  while (!counted?.input) counted = await compression();
  assert.ok(counted.output < counted.input / 2, JSON.stringify(counted));
});
