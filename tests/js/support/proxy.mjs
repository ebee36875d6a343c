import { once } from "node:events";
import { createServer, request } from "node:http";

/** Forwards plain HTTP to a local port, and lets every request for an upgrade wait for an answer forever. */
export class Proxy {
  #port;
  #server = createServer((incoming, response) => this.#forward(incoming, response));
  #swallowed = [];

  static async start(port) {
    const proxy = new Proxy();
    proxy.#port = port;
    proxy.#server.on("upgrade", (_, socket) => proxy.#swallowed.push(socket.on("error", () => {})));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.#server.address().port}/socket`;
  }

  /** How many upgrades were asked for. */
  get swallowed() {
    return this.#swallowed.length;
  }

  close() {
    for (const socket of this.#swallowed) socket.destroy();
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #forward(incoming, response) {
    const { method, url, headers } = incoming;
    const outgoing = request({ host: "127.0.0.1", port: this.#port, method, path: url, headers });
    outgoing.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    outgoing.on("error", () => response.destroy());
    response.on("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
  }
}
