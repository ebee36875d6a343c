import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { Run, freePort } from "./run.mjs";

export const BINARY =
  process.env.SLACKIR_BIN ??
  fileURLToPath(new URL("../../../target/debug/slackir", import.meta.url));

/** One slackir server with a port and a database of its own; both outlive a stop, so it can start again. */
export class Server {
  #directory;
  #port;
  #run;

  static async create() {
    const server = new Server();
    server.#port = await freePort();
    server.#directory = await mkdtemp(join(tmpdir(), "slackir-js-"));
    return server;
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.#port}/socket`;
  }

  async start() {
    const database = `sqlite://${join(this.#directory, "chat.db")}`;
    this.#run = new Run(
      BINARY,
      ["serve", "--port", String(this.#port), "--database-url", database],
      `http://127.0.0.1:${this.#port}`,
    );
    await this.#run.ready();
  }

  /** Asks the server to end and resolves to how it did: `{ code, signal }`. */
  async stop() {
    const run = this.#run;
    this.#run = undefined;
    return run.stop();
  }

  async remove() {
    if (this.#run) await this.stop();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
