// The backends of examples/hooks behind a server: who may join, what is stored and broadcast, and who may call them.
// A backend whose interpreter is missing is left out; HOOK_PYTHON names a Python with Flask.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Socket } from "phoenix";
import WebSocket from "ws";

import { until } from "../../js/support/deadline.mjs";
import { freePort } from "../../js/support/run.mjs";
import { Server } from "../../js/support/server.mjs";

const TIME_LIMIT = { timeout: 60_000 };
const SECRET = randomBytes(32).toString("hex");
// Of the server, which gets the environment of this process.
process.env.SLACKIR_HOOK_SECRET = SECRET;

const examples = new URL("../../../examples/hooks/", import.meta.url);
const example = (name) => fileURLToPath(new URL(name, examples));
const python = process.env.HOOK_PYTHON ?? "python3";

const backends = [
  { file: "backend.py", probe: [python, "-c", "import flask"], command: () => [python, "-B", example("backend.py")] },
  { file: "backend.mjs", probe: [process.execPath, "-v"], command: () => [process.execPath, example("backend.mjs")] },
  { file: "backend.php", probe: ["php", "-v"], command: (port) => ["php", "-S", `127.0.0.1:${port}`, example("backend.php")] },
];

for (const { file, probe, command } of backends) {
  const isThere = spawnSync(probe[0], probe.slice(1)).status === 0;
  const skip = isThere ? false : `${probe.join(" ")} fails`;
  test(`examples/hooks/${file} decides and answers`, { ...TIME_LIMIT, skip }, async (t) => {
    const port = await startBackend(t, command);
    const config = await readFile(new URL("slackir.toml", examples), "utf8");
    const server = await Server.create({ config: config.replace(":5000", `:${port}`) });
    await server.start();
    t.after(() => server.remove());

    const ada = await Member.connect(t, server, 7);
    const bob = await Member.connect(t, server, 8);
    const eve = await Member.connect(t, server, 9);
    const refused = { status: "error", response: { reason: "not a member" } };
    assert.deepEqual(await eve.ask("phx_join", {}), refused);
    for (const member of [ada, bob]) {
      const joined = await member.ask("phx_join", {});
      assert.deepEqual(joined, { status: "ok", response: { messages: [] } });
    }
    const message = { id: 1, name: "Ada", body: "Grüße 🦀" };
    assert.deepEqual(await ada.ask("new_message", { body: message.body }), { status: "ok", response: message });
    for (const member of [ada, bob]) {
      await until("the message", () => member.messages.length === 1);
      assert.deepEqual(member.messages, [message]);
    }
    for (const [event, payload, reason] of [
      ["new_message", { body: 7 }, "body is missing"],
      ["dance", {}, "unknown event"],
    ]) {
      assert.deepEqual(await bob.ask(event, payload), { status: "error", response: { reason } });
    }
    const again = await Member.connect(t, server, 8);
    const rejoined = await again.ask("phx_join", {});
    assert.deepEqual(rejoined, { status: "ok", response: { messages: [message] } });

    const now = Math.floor(Date.now() / 1000);
    for (const [seconds, secret, status] of [
      [now, SECRET, 200],
      [now - 310, SECRET, 401],
      [now, "another secret of more than 32 bytes", 401],
    ]) {
      assert.equal(await call(port, seconds, secret), status);
    }
    // Notices that a backend does not know are taken, or they would be sent for ever.
    const notices = [{ kind: "message", topic: "room:12", event: "new_message", payload: {} }];
    assert.equal(await call(port, now, SECRET, { type: "told", at: now * 1_000, notices }), 200);
  });
}

const isFlaskThere = spawnSync(python, ["-c", "import flask"]).status === 0;
test("docs/HOOK.md: the whole example", { ...TIME_LIMIT, skip: !isFlaskThere && "no Flask" }, async (t) => {
  const page = await readFile(new URL("../../../docs/HOOK.md", import.meta.url), "utf8");
  const [config, backend, client] = ["toml", "python", "js"].map(
    (language) => page.match(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``))[1],
  );
  const port = await startBackend(t, (port) => [python, "-B", "-c", backend.replace("port=5000", `port=${port}`)]);
  const server = await Server.create({ config: config.replace(":5000", `:${port}`) });
  await server.start();
  t.after(() => server.remove());
  class PageSocket extends Socket {
    constructor(path, options) {
      assert.equal(path, "/socket");
      super(server.socketUrl, { transport: WebSocket, ...options });
      t.after(() => this.disconnect());
    }
  }
  const printed = [];
  const shown = [];
  const run = (code) => {
    const print = (...what) => printed.push(JSON.stringify(what));
    new Function("Socket", "print", "show", code)(PageSocket, print, (reason) => shown.push(reason));
  };
  run(client);
  const expected = [["Ada", "hi"], [{ body: "hi", name: "Ada" }]].map((what) => JSON.stringify(what));
  await until(`${expected}, not ${printed}`, () => expected.every((what) => printed.includes(what)));
  assert.ok(client.includes("id: 7"));
  run(client.replace("id: 7", "id: 9"));
  await until("a refusal", () => shown.length > 0);
  assert.equal(shown[0], "not a member");
});

test("a backend over https must have a certificate that the system trusts", TIME_LIMIT, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "slackir-hook-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [key, cert] = ["key.pem", "cert.pem"].map((name) => join(folder, name));
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const names = ["-subj", "/CN=hook", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
  const made = spawnSync("openssl", [...request, ...names, "-keyout", key, "-out", cert]);
  assert.equal(made.status, 0, String(made.stderr));
  const options = { key: await readFile(key), cert: await readFile(cert) };
  const backend = createServer(options, (_, response) => response.end('{"ok":true}'));
  await new Promise((resolve) => backend.listen(0, "127.0.0.1", resolve));
  t.after(() => backend.close());

  const config = await readFile(new URL("slackir.toml", examples), "utf8");
  const url = `https://127.0.0.1:${backend.address().port}/`;
  for (const [trusted, status] of [[undefined, "error"], [cert, "ok"]]) {
    if (trusted) process.env.SSL_CERT_FILE = trusted;
    t.after(() => delete process.env.SSL_CERT_FILE);
    const server = await Server.create({ config: config.replace("http://127.0.0.1:5000/slackir", url) });
    await server.start();
    t.after(() => server.remove());
    const ada = await Member.connect(t, server, 7);
    assert.equal((await ada.ask("phx_join", {})).status, status, `SSL_CERT_FILE=${trusted}`);
  }
});

/** Starts a backend on a free port, which it returns once the backend listens. */
async function startBackend(t, command) {
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), "slackir-hook-"));
  const [program, ...args] = command(port);
  const env = { ...process.env, PORT: String(port), MESSAGES_DIR: folder };
  const backend = spawn(program, args, { env, stdio: "ignore" });
  t.after(async () => {
    backend.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  });
  let listens = false;
  const knock = () =>
    connect(port, "127.0.0.1")
      .once("connect", function () {
        listens = true;
        this.destroy();
      })
      .once("error", () => setTimeout(knock, 50));
  knock();
  await until(`${program} to listen`, () => listens);
  return port;
}

/** Calls the backend as somebody with this secret; resolves to the status. */
async function call(port, seconds, secret, members = { type: "leave", payload: {} }) {
  const body = JSON.stringify({ v: 1, id: "h-0", ...members });
  const signature = createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex");
  const headers = {
    "content-type": "application/json",
    "slackir-signature": `t=${seconds},v1=${signature}`,
  };
  const answer = await fetch(`http://127.0.0.1:${port}/slackir`, { method: "POST", headers, body });
  await answer.arrayBuffer();
  return answer.status;
}

/** A client of the topic `room:12`. */
class Member {
  #socket;
  #refs = 0;
  #replies = new Map();

  messages = [];

  static async connect(t, server, id) {
    const member = new Member();
    member.#socket = new WebSocket(`${server.socketUrl}/websocket?vsn=2.0.0&id=${id}`);
    t.after(() => member.#socket.terminate());
    await new Promise((resolve, reject) => member.#socket.once("open", resolve).once("error", reject));
    member.#socket.on("message", (text) => member.#receive(JSON.parse(text)));
    return member;
  }

  /** Pushes; resolves to the reply. */
  ask(event, payload) {
    const ref = String(++this.#refs);
    this.#socket.send(JSON.stringify(["1", ref, "room:12", event, payload]));
    return new Promise((resolve) => this.#replies.set(ref, resolve));
  }

  #receive([, ref, , event, payload]) {
    if (event === "phx_reply") this.#replies.get(ref)?.(payload);
    if (event === "new_message") this.messages.push(payload);
  }
}
