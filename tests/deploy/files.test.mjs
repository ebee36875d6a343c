// What the files of deploy/ promise in numbers, and that the files which nothing here runs can be read.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { parse } from "yaml";

import { BINARY } from "../js/support/server.mjs";
import { deployed, isInstalled } from "./support/proxies.mjs";

/** The default of a setting, as the binary tells it. */
const help = execFileSync(BINARY, ["--help"], { encoding: "utf8" });
const setting = (name) => Number(help.match(new RegExp(`--${name} <\\w+>\\n[^]*?\\[default: (\\d+)\\]`))[1]);

/** phoenix.js's heartbeat, and the longest that a poll of it waits. */
const HEARTBEAT = 30;
const LONGEST_POLL = 20;

const seconds = (text, pattern) => Number(text.match(pattern)?.[1] ?? assert.fail(`no ${pattern}`));

test("a silent WebSocket is ended by the server, not by the proxy", () => {
  const idle = setting("idle-timeout");
  assert.ok(idle > HEARTBEAT);
  for (const [file, pattern] of [
    ["nginx.conf", /proxy_read_timeout (\d+)s;/],
    ["nginx.conf", /proxy_send_timeout (\d+)s;/],
    ["haproxy.cfg", /timeout tunnel (\d+)s/],
  ])
    assert.ok(seconds(deployed(file), pattern) > idle, `${file}: ${pattern}`);
  for (const [file, pattern] of [
    ["haproxy.cfg", /timeout client (\d+)s/],
    ["haproxy.cfg", /timeout server (\d+)s/],
    ["traefik/traefik.yml", /readTimeout: (\d+)s/],
  ])
    assert.ok(seconds(deployed(file), pattern) > LONGEST_POLL, `${file}: ${pattern}`);
});

test("a connection between two requests is ended by the proxy, not by the server", () => {
  const keepAlive = setting("keep-alive");
  for (const [file, pattern] of [
    ["nginx.conf", /keepalive_timeout (\d+)s;/],
    ["Caddyfile", /keepalive (\d+)s/],
    ["haproxy.cfg", /timeout http-keep-alive (\d+)s/],
    ["traefik/dynamic.yml", /idleConnTimeout: (\d+)s/],
    ["compose.yml", /keepalive (\d+)s/],
  ])
    assert.ok(seconds(deployed(file), pattern) < keepAlive, `${file}: ${pattern}`);
});

test("a container has the time that a shutdown takes, and the files that the connections take", () => {
  const { slackir } = parse(deployed("compose.yml")).services;
  assert.ok(seconds(slackir.stop_grace_period, /^(\d+)s$/) > setting("shutdown-timeout"));
  assert.ok(slackir.ulimits.nofile > 2 * setting("max-connections"));
  const network = parse(deployed("compose.yml")).networks.web.ipam.config[0].subnet;
  assert.equal(slackir.command[slackir.command.indexOf("--trusted-proxies") + 1], network);
});

test("the second compose file changes services and networks of the first", () => {
  const [first, second] = ["compose.yml", "compose.postgres.yml"].map((file) => parse(deployed(file)));
  assert.ok(first.services.slackir && second.services.slackir.build.dockerfile);
  assert.ok("database" in second.networks);
});

test("in the cluster a node has the time that its shutdown takes, and its environment is read", () => {
  const { slackir1 } = parse(deployed("compose.cluster.yml"), { merge: true }).services;
  const delay = Number(slackir1.environment.SLACKIR_SHUTDOWN_DELAY);
  assert.ok(seconds(slackir1.stop_grace_period, /^(\d+)s$/) > delay + setting("shutdown-timeout"));
  const settings = readFileSync(new URL("../../docs/CONFIGURATION.md", import.meta.url), "utf8");
  for (const name of Object.keys(slackir1.environment)) assert.ok(settings.includes(`| \`${name}\` |`), name);
});

test("what the Debian package takes is there, or scripts/deb makes it", () => {
  const root = new URL("../../", import.meta.url);
  const manifest = readFileSync(new URL("Cargo.toml", root), "utf8");
  const [, assets] = manifest.match(/\[package\.metadata\.deb\][^]*?\nassets = \[([^]*?)\n\]/);
  const sources = [...assets.matchAll(/\["([^"]+)", "[^"]+", "\d+"\]/g)].map(([, source]) => source);
  assert.ok(sources.includes("target/release/slackir"));
  const made = readFileSync(new URL("scripts/deb", root), "utf8");
  for (const source of sources) {
    // Of `folder/*.md` the folder.
    const path = source.replace(/\/\*.*$/, "");
    assert.ok(source.startsWith("target/") ? made.includes(path) : existsSync(new URL(path, root)), source);
  }
});

test("Caddy reads its configuration in compose.yml", { skip: !isInstalled("caddy") && "no Caddy" }, () => {
  const directory = mkdtempSync(join(tmpdir(), "slackir-compose-"));
  const file = join(directory, "Caddyfile");
  writeFileSync(file, parse(deployed("compose.yml")).configs.caddyfile.content.replaceAll("$$", "$"));
  const env = { ...process.env, SLACKIR_DOMAIN: "chat.example.com", HOME: directory, XDG_DATA_HOME: directory };
  try {
    execFileSync("caddy", ["validate", "--adapter", "caddyfile", "--config", file], { env, stdio: "pipe" });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
