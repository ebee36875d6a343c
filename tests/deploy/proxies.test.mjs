// Each proxy of deploy/, from its own file, between phoenix.js and a real server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { Socket } from "phoenix";
import WebSocket from "ws";

import { until } from "../js/support/deadline.mjs";
import { Browser, LongPoll } from "./support/browser.mjs";
import { HOST, PROXIES, Proxy, isInstalled } from "./support/proxies.mjs";
import { Slackir } from "./support/slackir.mjs";

const PER_ADDRESS = 5;

/** Seconds for which a connection is silent in the last test; without it that test is left out. */
const QUIET_SECONDS = Number(process.env.QUIET_SECONDS ?? 0);

/** Resolves to `[status, response]` of a join or a push. */
const answer = (push) =>
  new Promise((resolve) => {
    for (const status of ["ok", "error", "timeout"]) push.receive(status, (response) => resolve([status, response]));
  });

for (const kind of PROXIES) {
  const skip = kind.isOptional && !isInstalled(kind.command) && `${kind.name} is not installed`;
  describe(kind.name, { skip }, () => {
    let server, proxy;
    const browsers = [];

    const browser = (address) => {
      const opened = new Browser(proxy, address);
      browsers.push(opened);
      return opened;
    };

    before(async () => {
      const settings = `max_connections_per_ip = ${PER_ADDRESS}\nidle_timeout = ${QUIET_SECONDS ? 300 : 60}\nlog = "info"`;
      server = await Slackir.start(settings);
      proxy = await Proxy.start(kind, join(server.directory, "proxy"), server.port);
    });

    after(async () => {
      for (const opened of browsers) opened.close();
      await proxy?.stop();
      if (!server) return;
      assert.deepEqual(await server.stop(), { code: 0, signal: null });
      await server.remove();
    });

    const carries = (what, transport, addresses) =>
      test(`${what}: a join, messages, one of them of 1 MB`, async () => {
        const heard = { ann: [], bob: [] };
        const [ann, bob] = await Promise.all(
          Object.entries(heard).map(async ([name, messages], index) => {
            const channel = browser(addresses[index]).socket({ transport }).channel("room:1", { history: "none" });
            channel.on("shout", (payload) => messages.push(payload));
            assert.deepEqual(await answer(channel.join()), ["ok", {}]);
            return channel;
          }),
        );
        const sent = performance.now();
        ann.push("shout", { name: "ann", message: "hi" });
        await until("the message", () => heard.bob.length === 1 && heard.ann.length === 1);
        // A proxy that buffers would keep it until the poll ends, after 10 s.
        assert.ok(performance.now() - sent < 8_000, "the message was held back");

        const large = { name: "bob", message: "x".repeat(1_000_000) };
        bob.push("shout", large);
        await until("the large message", () => heard.ann.length === 2);
        assert.deepEqual(heard.ann[1], large);
        assert.deepEqual(await answer(bob.push("ping", { still: "here" })), ["ok", { still: "here" }]);
      });

    carries("WebSocket", undefined, ["127.0.0.11", "127.0.0.12"]);
    carries("long-polling", LongPoll, ["127.0.0.13", "127.0.0.14"]);

    test("the server sees the client's own address, whatever the client claims", async () => {
      const channel = browser("127.0.0.21").socket().channel("room:1");
      await answer(channel.join());
      await until("the log line", () => /socket\.connected .*forwarded=127\.0\.0\.21\b/.test(server.log));
      const polling = browser("127.0.0.22").socket({ transport: LongPoll }).channel("room:1");
      await answer(polling.join());
      await until("the log line", () => /socket\.connected .*forwarded=127\.0\.0\.22\b/.test(server.log));
      assert.doesNotMatch(server.log, /203\.0\.113\.9/);
    });

    test("polling clients hear each message once", async () => {
      const hi = { name: "ann", message: "hi" };
      for (let round = 1; round <= 10; round += 1) {
        const pair = await Promise.all(
          [`127.0.1.${round}`, `127.0.2.${round}`].map(async (address) => {
            const channel = browser(address).socket({ transport: LongPoll }).channel(`room:${round}`, { history: "none" });
            const heard = [];
            channel.on("shout", (payload) => heard.push(payload));
            assert.deepEqual(await answer(channel.join()), ["ok", {}]);
            return { channel, heard };
          }),
        );
        pair[0].channel.push("shout", hi);
        await until("the message", () => pair.every(({ heard }) => heard.length > 0));
        // Their answers come with a later poll: a message that came twice comes before them.
        await Promise.all(pair.map(({ channel }) => answer(channel.push("ping", {}))));
        for (const { heard } of pair) assert.deepEqual(heard, [hi]);
      }
    });

    test("an address has its own limit of connections", async () => {
      const [many, other] = [browser("127.0.0.31"), browser("127.0.0.32")];
      const open = Array.from({ length: PER_ADDRESS }, () => many.open());
      await Promise.all(open.map((socket) => once(socket, "open")));
      const [refusal] = await once(many.open(), "error");
      assert.match(refusal.message, /429/);
      const another = other.open();
      await once(another, "open");
      for (const socket of [...open, another]) socket.terminate();
    });

    test("nobody reads what is for operators", async () => {
      const stranger = browser("127.0.0.41");
      assert.equal((await stranger.exchange("/healthz")).body, "ok\n");
      const own = await fetchPlain(server.port, "/metrics");
      assert.match(own, /slackir_/);
      const ways = ["", "/", "?x=1", "%2f", "/.", "/x/.."];
      const written = ["/metrics", "//metrics", "/%6detrics", "/./metrics", "/x/../metrics", "/%2e/metrics"];
      const paths = written.flatMap((path) => ways.map((way) => path + way));
      for (const path of [...paths, "/readyz", "/%72eadyz", "/dashboard", "/dashboard/login", "/dashboard/socket/websocket"]) {
        const { status, body } = await stranger.exchange(path);
        assert.ok(status >= 400, `${path}: ${status}`);
        assert.doesNotMatch(body, /slackir_|ready/, path);
      }
    });

    test("a request without TLS is sent to https", async () => {
      const { status, headers } = await browser("127.0.0.42").plainExchange("/?room=tea");
      assert.ok([301, 308].includes(status), String(status));
      assert.match(headers.location, new RegExp(`^https://${HOST}(:\\d+)?/\\?room=tea$`));
      const page = await browser("127.0.0.42").exchange("/");
      assert.match(page.headers["strict-transport-security"], /max-age=31536000/);
    });

    test("a token of 20 kB in the URL is let through, a head without an end is not", async () => {
      const padded = browser("127.0.0.51").open(`/websocket?vsn=2.0.0&token=${"x".repeat(20_000)}`);
      await once(padded, "open");
      padded.terminate();
      const { status } = await browser("127.0.0.51").exchange(`/?${"x".repeat(200_000)}`).catch(() => ({ status: 0 }));
      assert.ok(status === 0 || status >= 400, String(status));
    });

    test("after a restart of the server clients come back and resume", async () => {
      let last = null;
      const heard = [];
      const replies = [];
      const channel = browser("127.0.0.61")
        .socket({ reconnectAfterMs: () => 1_500 })
        .channel("room:resume", () => ({ meta: true, last_seen_id: last }));
      channel.on("shout", ({ message, _meta }) => {
        heard.push(message);
        last = _meta.id;
      });
      channel.join().receive("ok", (reply) => replies.push(reply));
      channel.push("shout", { name: "ann", message: "before" });
      await until("the first message", () => heard.length === 1);

      assert.deepEqual(await server.stop(), { code: 0, signal: null });
      await server.start();
      // Somebody on the server's own host is back sooner.
      const near = new Socket(`ws://127.0.0.1:${server.port}/socket`, { transport: WebSocket });
      near.connect();
      const neighbour = near.channel("room:resume", { ack: true, history: "none" });
      await answer(neighbour.join());
      const [status] = await answer(neighbour.push("shout", { name: "bob", message: "meanwhile" }));
      assert.equal(status, "ok");
      near.disconnect();

      await until("the rejoin", () => replies.length === 2, 15_000);
      await until("the missed message", () => heard.length === 2);
      assert.equal(replies[1].recovered, true);
      assert.deepEqual(heard, ["before", "meanwhile"]);
    });

    if (kind.name === "HAProxy")
      test("a WebSocket on HTTP/2 arrives", async () => {
        const session = connectHttp2(`https://${HOST}:${proxy.port}`, browser("127.0.0.71").options);
        await once(session, "remoteSettings");
        assert.equal(session.remoteSettings.enableConnectProtocol, true);
        const stream = session.request({
          ":method": "CONNECT",
          ":protocol": "websocket",
          ":path": "/socket/websocket?vsn=2.0.0",
          "sec-websocket-version": "13",
          origin: `https://${HOST}`,
        });
        const [headers] = await once(stream, "response");
        assert.equal(headers[":status"], 200);
        session.destroy();
      });

    test(`a silent connection stays for ${QUIET_SECONDS} s`, { skip: !QUIET_SECONDS }, async () => {
      const silent = browser("127.0.0.81").open();
      await once(silent, "open");
      const socket = browser("127.0.0.82").socket();
      let closes = 0;
      socket.onClose(() => (closes += 1));
      const channel = socket.channel("room:1", { history: "none" });
      await answer(channel.join());
      await pause(QUIET_SECONDS * 1_000);
      assert.equal(silent.readyState, WebSocket.OPEN);
      assert.equal(closes, 0);
      const [status] = await answer(channel.push("ping", {}));
      assert.equal(status, "ok");
      silent.terminate();
    });
  });
}

/** The body of an answer of the server itself. */
async function fetchPlain(port, path) {
  const { request } = await import("node:http");
  const { text } = await import("node:stream/consumers");
  const asking = request({ host: "127.0.0.1", port, path }).end();
  const [response] = await once(asking, "response");
  return text(response);
}
