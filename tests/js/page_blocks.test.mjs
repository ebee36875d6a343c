// The JavaScript of README.md, docs/ERRORS.md, docs/LIBRARY.md and docs/TRACES.md, run as the pages show it.
// docs/FRONTENDS.md, docs/FRAMEWORKS.md and docs/HISTORY.md have tests of their own.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { describe, test } from "node:test";
import { buffer } from "node:stream/consumers";
import WebSocket from "ws";

import { HEARTBEAT_MS, disconnect, newest } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { AT_ONCE, TIME_LIMIT } from "./support/scenario.mjs";
import { Server } from "./support/server.mjs";

/** The blocks of a page, without their imports: the tests pass what these bring. */
async function blocks(file) {
  const page = await readFile(new URL(`../../${file}`, import.meta.url), "utf8");
  return [...page.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code.replace(/^import .*$/gm, ""));
}

async function serve(t, config = "") {
  const server = await Server.create({ config });
  await server.start();
  t.after(() => server.remove());
  return server;
}

/** Runs code with phoenix.js's Socket, which connects to the server whatever its path, and these globals. */
function run(t, server, code, globals) {
  class Socket extends newest.Socket {
    constructor(path, options) {
      assert.match(path, /^(ws:\/\/127\.0\.0\.1:4000)?\/socket$/);
      super(server.socketUrl, { transport: WebSocket, heartbeatIntervalMs: HEARTBEAT_MS, ...options });
      t.after(() => disconnect(this));
    }
  }
  const names = { Socket, ...globals };
  new Function(...Object.keys(names), code)(...Object.values(names));
}

/** A function that keeps what it is called with, as JSON. */
function recorder() {
  const told = [];
  const tell = (...what) => told.push(JSON.stringify(what));
  const tells = (...what) => until(`${JSON.stringify(what)} among ${told}`, () => told.includes(JSON.stringify(what)));
  return { tell, tells };
}

describe("the JavaScript of other pages", AT_ONCE, () => {
  test("README.md", TIME_LIMIT, async (t) => {
    const [code] = await blocks("README.md");
    const { tell, tells } = recorder();
    run(t, await serve(t), code, { window: {}, console: { log: tell } });
    await tells([]);
    await tells("ada", "hi");
  });

  test("docs/LIBRARY.md", TIME_LIMIT, async (t) => {
    const [code] = await blocks("docs/LIBRARY.md");
    const { tell, tells } = recorder();
    // The room of a file that does the same as the channel of the page.
    const server = await serve(t, '[[rooms]]\ntopics = "room:*"\nhistory = "none"\nevents = ["new_msg"]\n');
    run(t, server, code, { console: { log: tell } });
    await tells({ body: "hi" });
  });

  test("docs/ERRORS.md: a join that is let in, and a server that goes", TIME_LIMIT, async (t) => {
    const [code] = await blocks("docs/ERRORS.md");
    const { tell, tells } = recorder();
    const server = await serve(t, '[[rooms]]\ntopics = "room:*"\nhistory = "none"\n');
    const shows = (name) => () => tell(name);
    const globals = { currentToken: () => "token", show: tell };
    for (const name of ["showOnline", "showOffline", "showRoom"]) globals[name] = shows(name);
    run(t, server, code, globals);
    await tells("showOnline");
    await tells("showRoom");
    await server.stop();
    await tells("showOffline");
  });

  test("docs/ERRORS.md: a join that is refused is not repeated", TIME_LIMIT, async (t) => {
    const [code] = await blocks("docs/ERRORS.md");
    const { tell, tells } = recorder();
    const server = await serve(t, '[[rooms]]\ntopics = "room:*"\njoin.closed = true\n');
    const globals = { currentToken: () => "token", show: tell };
    for (const name of ["showOnline", "showOffline", "showRoom"]) globals[name] = () => {};
    let room;
    globals.keep = (channel) => (room = channel);
    run(t, server, `${code}\nkeep(room)`, globals);
    await tells("unauthorized", null);
    await until("the room to be left", () => room.state === "closed");
  });

  test("docs/TRACES.md: a page's trace goes on in the server", TIME_LIMIT, async (t) => {
    const [connecting, joining] = await blocks("docs/TRACES.md");
    const bodies = [];
    const collector = createServer(async (request, response) => {
      bodies.push(await buffer(request));
      response.end();
    });
    collector.listen(0, "127.0.0.1");
    await once(collector, "listening");
    t.after(() => collector.close());
    const server = await serve(t, `otel_endpoint = "http://127.0.0.1:${collector.address().port}"\notel_sample = 0.0\n`);
    // A trace for the connection, and another for the join.
    const traces = ["a", "b"].map((digit) => digit.repeat(32));
    const begun = [];
    const propagation = {
      inject(_, carrier) {
        begun.push(traces[Math.min(begun.length, 1)]);
        carrier.traceparent = `00-${begun.at(-1)}-00f067aa0ba902b7-01`;
      },
    };
    const globals = { context: { active: () => ({}) }, propagation, token: "token" };
    const code = `${connecting}\nsocket.connect()\n${joining.replace("room:1", "random:traced")}\nchannel.join()`;
    run(t, server, code, globals);
    // The ids of traces are bytes in the protobuf of a span.
    const has = (trace) => bodies.some((body) => body.includes(Buffer.from(trace, "hex")));
    await until("spans of both traces", () => traces.every(has));
  });
});
