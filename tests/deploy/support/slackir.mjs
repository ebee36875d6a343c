import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Run, freePort } from "../../js/support/run.mjs";
import { BINARY } from "../../js/support/server.mjs";
import { HOST } from "./proxies.mjs";

/** A server that stands behind a proxy on its own host, and can be started again. */
export class Slackir {
  #run;
  #output = "";

  /** `settings` are lines of the config file, above the rooms. */
  static async start(settings = "") {
    const server = new Slackir();
    server.port = await freePort();
    server.directory = await mkdtemp(join(tmpdir(), "slackir-deploy-"));
    // The workers of nginx are another user.
    await chmod(server.directory, 0o755);
    // The addresses of the clients here are of loopback, too: only the proxy's own is trusted.
    const config = `
      public_host = "${HOST}"
      trusted_proxies = "127.0.0.1"
      ${settings}
      [[rooms]]
      topics = "room:*"
      max_message_bytes = 2_000_000
    `;
    await writeFile(join(server.directory, "slackir.toml"), config);
    await server.start();
    return server;
  }

  async start() {
    const file = (name) => join(this.directory, name);
    const args = ["--config", file("slackir.toml"), "--database-url", `sqlite://${file("chat.db")}`];
    this.#run = new Run(BINARY, ["--port", String(this.port), ...args], `http://127.0.0.1:${this.port}`);
    await this.#run.ready();
  }

  /** The log so far, of all lives. */
  get log() {
    return this.#output + this.#run.output;
  }

  async stop() {
    const ending = await this.#run.stop();
    this.#output = this.log;
    return ending;
  }

  async remove() {
    await rm(this.directory, { recursive: true, force: true });
  }
}
