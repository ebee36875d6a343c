// The proxies of deploy/, each started from a copy of its file in which only ports, names of files and the source of
// the certificate are others.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { until } from "../../js/support/deadline.mjs";
import { freePort } from "../../js/support/run.mjs";

/** The name in all files. */
export const HOST = "chat.example.com";

export const deployed = (file) => readFileSync(fileURLToPath(new URL(`../../../deploy/${file}`, import.meta.url)), "utf8");

/** The text with each of the replacements, all of which must be found. */
function replaced(text, replacements) {
  for (const [from, to] of replacements) {
    if (!text.includes(from)) throw new Error(`the file has no ${JSON.stringify(from)}: adapt support/proxies.mjs`);
    text = text.replaceAll(from, to);
  }
  return text;
}

/** Each: `{ name, command, write(place) }`, where `write` makes the files and resolves to the arguments. */
export const PROXIES = [
  {
    name: "nginx",
    command: "nginx",
    write: async ({ directory, port, plainPort, server, certificate, key }) => {
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
        (what) => `${what}_temp_path ${directory}/${what};`,
      );
      const text = replaced(deployed("nginx.conf"), [
        ["pid /run/nginx.pid;", `pid ${directory}/nginx.pid;`],
        ["worker_processes auto;", "worker_processes 1;"],
        ["http {\n", `http {\n${temporary.join("\n")}\n`],
        ["/var/log/nginx/", `${directory}/`],
        ["127.0.0.1:4000", `127.0.0.1:${server}`],
        ["listen 80;", `listen 127.0.0.1:${plainPort};`],
        ["listen [::]:80;", ""],
        ["listen 443 ssl;", `listen 127.0.0.1:${port} ssl;`],
        ["listen [::]:443 ssl;", ""],
        [`/etc/letsencrypt/live/${HOST}/fullchain.pem`, certificate],
        [`/etc/letsencrypt/live/${HOST}/privkey.pem`, key],
      ]);
      await writeFile(join(directory, "nginx.conf"), text);
      return ["-p", directory, "-c", join(directory, "nginx.conf"), "-e", "stderr", "-g", "daemon off;"];
    },
  },
  {
    name: "Caddy",
    command: "caddy",
    write: async ({ directory, port, plainPort, server, certificate, key }) => {
      const ports = `admin off\n\tdefault_bind 127.0.0.1\n\thttps_port ${port}\n\thttp_port ${plainPort}`;
      const text = replaced(deployed("Caddyfile"), [
        ["{\n\tservers {", `{\n\t${ports}\n\tservers {`],
        [`#tls /etc/ssl/${HOST}.pem /etc/ssl/${HOST}.key`, `tls ${certificate} ${key}`],
        ["127.0.0.1:4000", `127.0.0.1:${server}`],
      ]);
      await writeFile(join(directory, "Caddyfile"), text);
      return ["run", "--adapter", "caddyfile", "--config", join(directory, "Caddyfile")];
    },
  },
  {
    name: "HAProxy",
    command: "haproxy",
    write: async ({ directory, port, plainPort, server, both }) => {
      const text = replaced(deployed("haproxy.cfg"), [
        ["log /dev/log local0", "log stdout format raw local0"],
        ["    user haproxy\n    group haproxy\n", ""],
        ["maxconn 60000", "maxconn 1000"],
        ["bind :80\n", `bind 127.0.0.1:${plainPort}\n`],
        ["bind :443 ", `bind 127.0.0.1:${port} `],
        [`/etc/haproxy/${HOST}.pem`, both],
        ["127.0.0.1:4000", `127.0.0.1:${server}`],
      ]);
      await writeFile(join(directory, "haproxy.cfg"), text);
      return ["-db", "-f", join(directory, "haproxy.cfg")];
    },
  },
  {
    name: "Traefik",
    command: process.env.TRAEFIK ?? "traefik",
    isOptional: true,
    write: async ({ directory, port, plainPort, server, certificate, key }) => {
      const routes = join(directory, "dynamic.yml");
      const text = replaced(deployed("traefik/traefik.yml"), [
        ['":80"', `"127.0.0.1:${plainPort}"`],
        ['":443"', `"127.0.0.1:${port}"`],
        ["/etc/traefik/dynamic.yml\n    watch", `${routes}\n    watch`],
        ["/etc/traefik/acme.json", join(directory, "acme.json")],
      ]);
      const routing = replaced(deployed("traefik/dynamic.yml"), [
        ["tls:\n        certResolver: letsencrypt", "tls: {}"],
        ["http://127.0.0.1:4000", `http://127.0.0.1:${server}`],
      ]);
      const own = `tls:\n  certificates:\n    - certFile: ${certificate}\n      keyFile: ${key}\n`;
      await writeFile(routes, routing + own);
      await writeFile(join(directory, "traefik.yml"), text);
      return [`--configfile=${join(directory, "traefik.yml")}`];
    },
  },
];

export function isInstalled(command) {
  try {
    execFileSync("sh", ["-c", `command -v "$0"`, command], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A certificate for HOST that has signed itself: `{ certificate, key, both }`, names of files. */
export async function certify(directory) {
  const [certificate, key, both] = ["certificate.pem", "key.pem", "both.pem"].map((name) => join(directory, name));
  const made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch".split(" ");
  const named = ["-subj", `/CN=${HOST}`, "-addext", `subjectAltName=DNS:${HOST}`];
  execFileSync("openssl", [...made, ...named, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  await writeFile(both, readFileSync(certificate, "utf8") + readFileSync(key, "utf8"));
  await chmod(key, 0o644);
  return { certificate, key, both };
}

/** One running proxy. */
export class Proxy {
  #process;
  #lines = [];
  #kill = () => this.#process.kill("SIGKILL");

  /** In front of the local port `server`. */
  static async start(kind, directory, server) {
    const proxy = new Proxy();
    await mkdir(directory, { recursive: true, mode: 0o755 });
    const files = await certify(directory);
    proxy.certificate = readFileSync(files.certificate);
    [proxy.port, proxy.plainPort] = [await freePort(), await freePort()];
    const { port, plainPort } = proxy;
    const args = await kind.write({ directory, port, plainPort, server, ...files });
    // Caddy keeps its data below HOME.
    const env = { ...process.env, HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory };
    proxy.#process = spawn(kind.command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [proxy.#process.stdout, proxy.#process.stderr])
      stream.on("data", (data) => proxy.#lines.push(String(data)));
    process.once("exit", proxy.#kill);
    let isUp = false;
    const probe = setInterval(async () => (isUp ||= await accepts(port)), 50);
    try {
      await until(`${kind.name} to listen`, () => isUp || proxy.#process.exitCode !== null);
    } finally {
      clearInterval(probe);
    }
    if (!isUp) throw new Error(`${kind.name} does not start:\n${proxy.output}`);
    return proxy;
  }

  get output() {
    return this.#lines.join("");
  }

  async stop() {
    process.off("exit", this.#kill);
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    const patience = setTimeout(this.#kill, 3_000);
    await ended;
    clearTimeout(patience);
  }
}

async function accepts(port) {
  const socket = connect(port, "127.0.0.1");
  const isUp = await new Promise((resolve) => {
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
  });
  socket.destroy();
  return isUp;
}
