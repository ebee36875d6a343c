// Servers that are nodes of one cluster, as they are deployed: one PostgreSQL, one Redis, and a balancer.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { DEADLINE_MS } from "./deadline.mjs";
import { Run, freePort } from "./run.mjs";
import { BINARY } from "./server.mjs";

/** The URL of a PostgreSQL superuser: `scripts/postgres run` sets it. */
export const POSTGRES = process.env.SLACKIR_TEST_POSTGRES;

const psql = (url, ...args) => execFileSync("psql", [url, "-qAt", ...args], { encoding: "utf8", maxBuffer: 1 << 30 });

/** One server, with a port and a spool of its own that outlive its end. */
class Node {
  #port;
  #args;
  #run;

  constructor(port, args) {
    this.#port = port;
    this.#args = args;
  }

  get port() {
    return this.#port;
  }

  async start() {
    const run = new Run(BINARY, ["serve", "--port", String(this.#port), ...this.#args], `http://127.0.0.1:${this.#port}`);
    this.#run = run;
    await run.ready();
  }

  async kill() {
    await this.#run.kill();
  }

  async stop() {
    return this.#run.stop();
  }
}

/** Hands each connection to the next node that accepts it. */
async function balance(nodes) {
  let turn = 0;
  const serve = (client, tries) => {
    const node = nodes[turn++ % nodes.length];
    const server = connect(node.port, "127.0.0.1");
    server.once("connect", () => {
      server.setNoDelay();
      client.pipe(server).pipe(client);
      client.once("close", () => server.destroy());
      server.once("close", () => client.destroy());
    });
    server.on("error", () => {
      if (server.connecting || server.bytesRead === 0) {
        if (tries > 1) return serve(client, tries - 1);
      }
      client.destroy();
    });
  };
  const balancer = createServer((client) => {
    client.setNoDelay();
    client.on("error", () => client.destroy());
    serve(client, nodes.length);
  });
  balancer.listen(0, "127.0.0.1");
  await once(balancer, "listening");
  return balancer;
}

export class Cluster {
  #directory = mkdtempSync(join(tmpdir(), "slackir-cluster-"));
  #database = `cluster_${process.pid}_${Date.now()}`;
  #redis;
  #redisPort;
  #balancer;
  nodes = [];

  static async start(count) {
    const cluster = new Cluster();
    try {
      await cluster.#start(count);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  async #start(count) {
    psql(POSTGRES, "-c", `CREATE DATABASE ${this.#database}`);
    this.#redisPort = await freePort();
    await this.startRedis();
    for (let number = 0; number < count; number += 1) {
      const spool = join(this.#directory, `spool-${number}`);
      const urls = ["--database-url", this.#databaseUrl, "--redis-url", `redis://127.0.0.1:${this.#redisPort}`];
      const node = new Node(await freePort(), [...urls, "--spool-dir", spool, "--node-name", `node-${number}`]);
      await node.start();
      this.nodes.push(node);
    }
    this.#balancer = await balance(this.nodes);
  }

  get #databaseUrl() {
    return POSTGRES.replace(/[^/]*$/, this.#database);
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.#balancer.address().port}/socket`;
  }

  /** Starts a Redis that has nothing. */
  async startRedis() {
    const args = ["--port", String(this.#redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    this.#redis = spawn("redis-server", args, { stdio: "ignore" });
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const socket = connect(this.#redisPort, "127.0.0.1");
      const isOpen = await Promise.race([
        once(socket, "connect").then(() => true),
        once(socket, "error").then(() => false, () => false),
      ]).catch(() => false);
      socket.destroy();
      if (isOpen) return;
      if (Date.now() > deadline) throw new Error("redis-server should listen");
      await pause(20);
    }
  }

  async killRedis() {
    this.#redis.kill("SIGKILL");
    await once(this.#redis, "exit");
  }

  /** The values of a payload's field, in the order of a topic: `{topic: [value, ...]}`. */
  stored(field) {
    const query = `SELECT topic, payload::json->>'${field}' FROM messages ORDER BY topic, seq`;
    const topics = {};
    for (const line of psql(this.#databaseUrl, "-F", "\t", "-c", query).split("\n").filter(Boolean)) {
      const [topic, value] = line.split("\t");
      (topics[topic] ??= []).push(value);
    }
    return topics;
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.stop()));
    this.#balancer?.close();
    if (this.#redis) await this.killRedis();
    psql(POSTGRES, "-c", `DROP DATABASE ${this.#database} WITH (FORCE)`);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
