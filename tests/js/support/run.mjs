import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

import { until } from "./deadline.mjs";

const START_DEADLINE_MS = 15_000;
const STOP_DEADLINE_MS = 15_000;

/** One life of a server process, which prints `url` once it is ready. */
export class Run {
  #binary;
  #url;
  #process;
  #output = [];
  #isReady = false;
  #ending;
  #killOnExit = () => this.#process.kill("SIGKILL");

  constructor(binary, args, url) {
    this.#binary = binary;
    this.#url = url;
    this.#process = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process.once("error", (error) => this.#end({ error }));
    this.#process.once("exit", (code, signal) => this.#end({ code, signal }));
    this.#readLines(this.#process.stdout, (line) => (this.#isReady ||= line.includes(this.#url)));
    this.#readLines(this.#process.stderr);
    process.once("exit", this.#killOnExit);
  }

  async ready() {
    try {
      await until(
        `${this.#binary} to print ${this.#url}`,
        () => this.#isReady || this.#ending,
        START_DEADLINE_MS,
      );
    } catch (error) {
      this.#process.kill("SIGKILL");
      throw this.#explain(error.message);
    }
    if (this.#ending?.error) throw new Error(`cannot run ${this.#binary}`, { cause: this.#ending.error });
    if (this.#ending) throw this.#explain("the server ended before it was ready");
  }

  /** Asks the process to end and resolves to how it did: `{ code, signal }`. */
  async stop() {
    this.#process.kill("SIGTERM");
    try {
      return await until("the server to end after SIGTERM", () => this.#ending, STOP_DEADLINE_MS);
    } catch (error) {
      this.#process.kill("SIGKILL");
      throw this.#explain(error.message);
    }
  }

  /** Ends the process at once, as a power cut would. */
  async kill() {
    this.#process.kill("SIGKILL");
    await until("the server to be gone", () => this.#ending, STOP_DEADLINE_MS);
  }

  /** What it has printed so far. */
  get output() {
    return this.#output.join("\n");
  }

  #end(ending) {
    this.#ending ??= ending;
    process.off("exit", this.#killOnExit);
  }

  #readLines(stream, onLine = () => {}) {
    createInterface({ input: stream }).on("line", (line) => {
      this.#output.push(line);
      onLine(line);
    });
  }

  #explain(problem) {
    return new Error(`${problem}; its output:\n${this.output}`);
  }
}

export async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}
