// The balancer of compose.cluster.yml, from its own configuration, in front of two nodes and one that is gone.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { parse } from "yaml";

import { DEADLINE_MS } from "../js/support/deadline.mjs";
import { freePort } from "../js/support/run.mjs";
import { deployed, isInstalled } from "./support/proxies.mjs";

const skip = !isInstalled("caddy") && "no Caddy";
const directory = mkdtempSync(join(tmpdir(), "slackir-balancer-"));
const nodes = [];
let caddy, url;

/** A node that answers with its number, and says on /readyz whether it is ready. */
async function start(number) {
  const node = { served: 0, isReady: true };
  node.server = createServer((request, response) => {
    if (request.url === "/readyz") return response.writeHead(node.isReady ? 200 : 503).end();
    node.served += 1;
    response.end(`${number}`);
  });
  node.server.listen(0, "127.0.0.1");
  await once(node.server, "listening");
  return node;
}

/** Asks again and again, until `holds` resolves to true. */
async function answers(what, holds) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await holds().catch(() => false))) {
    assert.ok(Date.now() < deadline, `${what} does not answer`);
    await pause(20);
  }
}

before(async () => {
  if (skip) return;
  nodes.push(await start(1), await start(2));
  // Nobody listens on port 9, and no test may take it.
  const [port, gone] = [await freePort(), 9];
  const ports = [...nodes.map(({ server }) => server.address().port), gone];
  let text = parse(deployed("compose.cluster.yml")).configs.caddyfile.content.replaceAll("$$", "$");
  for (const [index, to] of ports.entries()) {
    assert.ok(text.includes(`slackir${index + 1}:4000`));
    text = text.replace(`slackir${index + 1}:4000`, `127.0.0.1:${to}`);
  }
  assert.ok(text.startsWith(":80 {"));
  const file = join(directory, "Caddyfile");
  writeFileSync(file, `{\n  admin off\n}\n${text.replace(":80 {", `http://127.0.0.1:${port} {`)}`);
  const env = { ...process.env, HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory };
  caddy = spawn("caddy", ["run", "--adapter", "caddyfile", "--config", file], { env, stdio: "ignore" });
  url = `http://127.0.0.1:${port}`;
  await answers("Caddy", async () => (await fetch(url)).status === 200);
});

after(async () => {
  if (caddy) {
    caddy.kill();
    await once(caddy, "exit");
  }
  for (const { server } of nodes) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(directory, { recursive: true });
});

test("no request fails because a node is gone", { skip }, async () => {
  for (let n = 0; n < 60; n += 1) {
    const { status } = await fetch(`${url}/?${n}`, { method: n % 2 ? "POST" : "GET", body: n % 2 ? "x" : undefined });
    assert.equal(status, 200);
  }
  assert.ok(nodes.every(({ served }) => served > 5), JSON.stringify(nodes.map(({ served }) => served)));
});

test("a node that is not ready gets nobody new", { skip }, async () => {
  nodes[0].isReady = false;
  await answers("the other node alone", async () => {
    const bodies = await Promise.all(Array.from({ length: 10 }, async () => (await fetch(url)).text()));
    return bodies.every((body) => body === "2");
  });
});

test("strangers do not read what is for operators", { skip }, async () => {
  for (const path of ["/metrics", "/readyz", "/dashboard", "/dashboard/login", "//metrics"])
    assert.equal((await fetch(url + path)).status, 404, path);
});
