// The examples of docs/COMING_FROM.md: each configuration with the page that is for it.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Socket } from "phoenix";
import WebSocket from "ws";

import { until } from "../js/support/deadline.mjs";
import { Run, freePort } from "../js/support/run.mjs";
import { BINARY } from "../js/support/server.mjs";

const PAGE = readFileSync(new URL("../../docs/COMING_FROM.md", import.meta.url), "utf8");
const SECRET = "a secret of more than 32 bytes, for tests alone";
const API_TOKEN = "a-token-for-tests-alone";

process.env.SECRET_KEY_BASE = process.env.CHAT_SECRET = SECRET;
process.env.SLACKIR_API_TOKEN = API_TOKEN;

/** The block of a language for an example. */
const block = (language, name) =>
  PAGE.match(new RegExp(`\`\`\`${language} coming-from-${name}\\n([^]*?)\`\`\``))?.[1] ?? assert.fail(`no ${language} for ${name}`);

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function jwt() {
  const content = `${encode({ alg: "HS256" })}.${encode({ sub: "7", exp: Math.floor(Date.now() / 1_000) + 60 })}`;
  return `${content}.${createHmac("sha256", SECRET).update(content).digest("base64url")}`;
}

/** Runs the page of an example, twice if it is `heard` by a second one, and expects what is shown. */
function example(name, expected, { neighbour = false } = {}) {
  test(`from ${name}`, async () => {
    const directory = await mkdtemp(join(tmpdir(), "slackir-pages-"));
    const file = join(directory, "slackir.toml");
    await writeFile(file, block("toml", name));
    const port = await freePort();
    const run = new Run(
      BINARY,
      ["--config", file, "--port", String(port), "--database-url", `sqlite://${join(directory, "chat.db")}`],
      `http://127.0.0.1:${port}`,
    );
    await run.ready();
    const sockets = [];
    class PageSocket extends Socket {
      constructor(path, options) {
        super(`ws://127.0.0.1:${port}${path}`, { transport: WebSocket, ...options });
        sockets.push(this);
      }
    }
    const shown = [];
    const show = (...what) => shown.push(what.join(" "));
    const publish = () =>
      fetch(`http://127.0.0.1:${port}/api/topics/news/broadcast`, {
        method: "POST",
        headers: { Authorization: `Bearer ${API_TOKEN}` },
        body: JSON.stringify({ event: "headline", payload: { text: "rain" } }),
      });
    const userToken = execFileSync(BINARY, ["token", "sign", "--salt", "user socket", "7"], { encoding: "utf8" }).trim();
    const page = new Function("Socket", "show", "publish", "userToken", "jwt", block("js", name));
    try {
      page(PageSocket, show, publish, userToken, jwt);
      if (neighbour) {
        await until(`${name}: it has joined`, () => sockets[0]?.channels[0]?.state === "joined");
        page(PageSocket, () => {}, publish, userToken, jwt);
      }
      await until(`${name}: ${expected}`, () => expected.every((line) => shown.includes(line)));
      assert.deepEqual(shown.sort(), expected.sort());
    } finally {
      for (const socket of sockets) socket.disconnect();
      assert.deepEqual(await run.stop(), { code: 0, signal: null });
      await rm(directory, { recursive: true });
    }
  });
}

example("phoenix", ["7 hi"]);
example("socket-io", ["answered hi", "heard hi"], { neighbour: true });
example("pusher", ["rain"]);
example("centrifugo", ["recovered false", "hi"]);
