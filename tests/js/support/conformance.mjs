import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

import { Run, freePort } from "./run.mjs";

const BINARY =
  process.env.CONFORMANCE_BIN ??
  fileURLToPath(new URL("../../../target/debug/examples/conformance", import.meta.url));

/** The conformance example on a port of its own. */
export class Conformance {
  #run;

  static async create() {
    const conformance = new Conformance();
    conformance.port = await freePort();
    return conformance;
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.port}/socket`;
  }

  async start() {
    const args = ["--port", String(this.port)];
    this.#run = new Run(BINARY, args, `http://127.0.0.1:${this.port}`);
    await this.#run.ready();
  }

  /** Ends the server, in order and without a panic. */
  async stop() {
    assert.deepEqual(await this.#run.stop(), { code: 0, signal: null });
    assert.doesNotMatch(this.#run.output, /panicked/);
  }
}
