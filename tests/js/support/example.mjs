import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

import { Run, freePort } from "./run.mjs";

/** One of the examples on a port of its own. */
export class Example {
  #binary;
  #args;
  #run;

  /** `NAME_BIN` in the environment names another binary than the one in the target folder. */
  static async create(name, args = []) {
    const example = new Example();
    example.#binary =
      process.env[`${name.toUpperCase()}_BIN`] ??
      fileURLToPath(new URL(`../../../target/debug/examples/${name}`, import.meta.url));
    example.#args = args;
    example.port = await freePort();
    return example;
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.port}/socket`;
  }

  async start() {
    const args = ["--port", String(this.port), ...this.#args];
    this.#run = new Run(this.#binary, args, `http://127.0.0.1:${this.port}`);
    await this.#run.ready();
  }

  /** Ends the server, in order and without a panic. */
  async stop() {
    assert.deepEqual(await this.#run.stop(), { code: 0, signal: null });
    assert.doesNotMatch(this.#run.output, /panicked/);
  }
}
