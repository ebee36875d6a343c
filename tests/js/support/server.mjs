import { mkdtemp, rm, writeFile } from "node:fs/promises";
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
  #args;
  #port;
  #run;

  /** `config` is the text of a config file. */
  static async create({ config = "" } = {}) {
    const server = new Server();
    server.#port = await freePort();
    server.#directory = await mkdtemp(join(tmpdir(), "slackir-js-"));
    const [file, database] = ["config.toml", "chat.db"].map((name) => join(server.#directory, name));
    await writeFile(file, config);
    server.#args = ["--config", file, "--database-url", `sqlite://${database}`];
    return server;
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.#port}/socket`;
  }

  async start() {
    this.#run = new Run(
      BINARY,
      ["serve", "--port", String(this.#port), ...this.#args],
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
