// A browser at an address of its own: phoenix.js through a proxy, which it finds under the name of its certificate.

import { request as plainRequest } from "node:http";
import { Agent, request } from "node:https";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

import WebSocket from "ws";

import { HOST } from "./proxies.mjs";

const require = createRequire(import.meta.url);
export const { LongPoll, Socket } = require("phoenix");

/** What a client sends to pass for another one. */
const FORGED = { "X-Forwarded-For": "203.0.113.9", Forwarded: "for=203.0.113.9" };

const browsers = new Map();

export class Browser {
  static #opened = 0;

  #proxy;
  #name = String((Browser.#opened += 1));
  #sockets = [];

  /** `address` is one of 127.0.0.0/8. */
  constructor(proxy, address) {
    this.#proxy = proxy;
    this.address = address;
    const to = { localAddress: address, ca: proxy.certificate, lookup: atHome };
    this.agent = new Agent({ ...to, keepAlive: true });
    const headers = { ...FORGED, Origin: `https://${HOST}` };
    this.options = { ...to, headers };
    browsers.set(this.#name, this);
  }

  get url() {
    return `wss://${HOST}:${this.#proxy.port}/socket`;
  }

  /** A plain WebSocket at a path below the socket's. */
  open(path = "/websocket?vsn=2.0.0") {
    return new WebSocket(this.url + path, this.options);
  }

  /** A socket of phoenix.js, connected. */
  socket({ params = {}, transport, ...options } = {}) {
    const webSocketOptions = this.options;
    class Transport extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols ?? [], webSocketOptions);
      }
    }
    const asked = { params: { ...params, browser: this.#name }, transport: transport ?? Transport };
    const socket = new Socket(this.url, { ...asked, reconnectAfterMs: () => 100, rejoinAfterMs: () => 100, ...options });
    socket.connect();
    this.#sockets.push(socket);
    return socket;
  }

  /** An exchange: `{ status, headers, body }`. The path is sent as it is. */
  async exchange(path, { method = "GET", headers = {}, body } = {}) {
    const asked = { ...this.options, agent: this.agent, method, path, host: HOST, port: this.#proxy.port };
    return finish(request({ ...asked, headers: { ...this.options.headers, ...headers } }), body);
  }

  /** An exchange without TLS. */
  async plainExchange(path) {
    const asked = { lookup: atHome, path, host: HOST, port: this.#proxy.plainPort };
    return finish(plainRequest(asked));
  }

  close() {
    for (const socket of this.#sockets) socket.disconnect();
    browsers.delete(this.#name);
    this.agent.destroy();
  }
}

/** Long-polling of phoenix.js takes `fetch`, if there is no XMLHttpRequest. */
globalThis.fetch = async (url, { method, headers, body }) => {
  const { pathname, search, searchParams } = new URL(url);
  const browser = browsers.get(searchParams.get("browser"));
  if (!browser) return new Promise(() => {});
  const answer = await browser.exchange(pathname + search, { method, headers, body });
  return { text: async () => answer.body };
};

/** The name is on this machine. */
function atHome(_host, { all }, done) {
  if (all) done(null, [{ address: "127.0.0.1", family: 4 }]);
  else done(null, "127.0.0.1", 4);
}

async function finish(asking, body) {
  const response = await new Promise((resolve, reject) => {
    asking.on("response", resolve).on("error", reject).end(body);
  });
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}
