// The server that a browser test runs against, and the wait for a condition.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const SLACKIR = path.resolve(process.env.SLACKIR_BIN ?? path.join(ROOT, "target/debug/slackir"));
export const PATIENCE_MS = 15_000;
export const BROWSER = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

export class Server {
  // `config`: the file of settings; `flags`: more arguments.
  static async start(t, config, ...flags) {
    const dir = await mkdtemp(path.join(tmpdir(), "slackir-browser-"));
    const server = new Server(await freePort(), path.join(dir, "chat.db"));
    t.after(async () => {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    });
    if (config) {
      const file = path.join(dir, "slackir.toml");
      await writeFile(file, config);
      server.args.push("--config", file);
    }
    server.args.push(...flags);
    await server.run();
    return server;
  }

  constructor(port, database) {
    this.url = `http://127.0.0.1:${port}`;
    this.args = ["serve", "--port", String(port), "--database-url", `sqlite://${database}`];
    this.child = null;
  }

  async run() {
    const child = spawn(SLACKIR, this.args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    let said = "";
    const listening = new Promise((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => {
          said += `${line}\n`;
          if (stream === child.stdout && line.includes(this.url)) resolve();
        });
      }
    });
    const failed = Promise.race([
      once(child, "exit").then(([code, signal]) => `ended with ${signal ?? code}`),
      once(child, "error").then(([error]) => error.message),
      delay(PATIENCE_MS, "said no address in time", { ref: false }),
    ]).catch((error) => error.message);
    const failure = await Promise.race([listening, failed]);
    if (failure) {
      await this.stop();
      throw new Error(`${SLACKIR} ${failure}:\n${said}`);
    }
  }

  async stop() {
    const { child } = this;
    this.child = null;
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit").then(() => true);
    child.kill("SIGTERM");
    if (await Promise.race([gone, delay(PATIENCE_MS, false, { ref: false })])) return;
    child.kill("SIGKILL");
    await gone;
    throw new Error("the server outlived SIGTERM");
  }
}

// The server's policy keeps Playwright's waitForFunction (an eval) out of the page.
export async function eventually(look, holds) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    try {
      return typeof holds === "function"
        ? assert.ok(holds(seen), `saw ${JSON.stringify(seen)}`)
        : assert.deepEqual(seen, holds);
    } catch (difference) {
      if (Date.now() > end) throw difference;
    }
    await delay(25);
  }
}
