import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { until } from "./deadline.mjs";

const BINARY =
  process.env.SLACKIR_BIN ??
  fileURLToPath(new URL("../../../target/debug/slackir", import.meta.url));

const START_DEADLINE_MS = 15_000;
const STOP_DEADLINE_MS = 15_000;

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
    this.#run = new Run(this.#port, join(this.#directory, "chat.db"));
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

/** One life of the server process. */
class Run {
  #process;
  #output = [];
  #url;
  #isReady = false;
  #ending;
  #killOnExit = () => this.#process.kill("SIGKILL");

  constructor(port, database) {
    this.#url = `http://127.0.0.1:${port}`;
    this.#process = spawn(
      BINARY,
      ["serve", "--port", String(port), "--database-url", `sqlite://${database}`],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#process.once("error", (error) => this.#end({ error }));
    this.#process.once("exit", (code, signal) => this.#end({ code, signal }));
    this.#readLines(this.#process.stdout, (line) => (this.#isReady ||= line.includes(this.#url)));
    this.#readLines(this.#process.stderr);
    process.once("exit", this.#killOnExit);
  }

  async ready() {
    try {
      await until(
        `${BINARY} to print ${this.#url}`,
        () => this.#isReady || this.#ending,
        START_DEADLINE_MS,
      );
    } catch (error) {
      this.#process.kill("SIGKILL");
      throw this.#explain(error.message);
    }
    if (this.#ending?.error) throw new Error(`cannot run ${BINARY}`, { cause: this.#ending.error });
    if (this.#ending) throw this.#explain("the server ended before it was ready");
  }

  async stop() {
    this.#process.kill("SIGTERM");
    try {
      return await until("the server to end after SIGTERM", () => this.#ending, STOP_DEADLINE_MS);
    } catch (error) {
      this.#process.kill("SIGKILL");
      throw this.#explain(error.message);
    }
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
    return new Error(`${problem}; its output:\n${this.#output.join("\n")}`);
  }
}

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}
