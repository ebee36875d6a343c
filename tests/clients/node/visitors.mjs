// Clients with different faces behind one: connect, join, ask, tell, hear, leave.

import { createRequire } from "node:module";

import { Socket as SupabaseSocket } from "@supabase/phoenix";
import { RealtimeChannel, RealtimeClient } from "@supabase/realtime-js";
import WebSocket from "ws";

import { DEADLINE_MS } from "../../js/support/deadline.mjs";

const { Socket: PhoenixChannelsSocket } = createRequire(import.meta.url)("phoenix-channels");

/** The clients: `{ name, vsn, connect(url) }`. */
export const clients = [
  {
    name: "phoenix-channels",
    vsn: "1.0.0",
    connect: (url) => new SocketVisitor(PhoenixChannelsSocket, url, {}),
  },
  {
    name: "@supabase/phoenix",
    vsn: "2.0.0",
    connect: (url) => new SocketVisitor(SupabaseSocket, url, { transport: WebSocket }),
  },
  {
    name: "@supabase/realtime-js",
    vsn: "1.0.0",
    connect: (url) => new RealtimeVisitor(url, "1.0.0"),
  },
  {
    name: "@supabase/realtime-js",
    vsn: "2.0.0",
    connect: (url) => new RealtimeVisitor(url, "2.0.0"),
  },
];

/** A client with a `Socket` and its `Channel` as in phoenix.js. */
class SocketVisitor {
  #socket;
  #channel;

  broadcasts = [];

  constructor(Socket, url, options) {
    this.#socket = new Socket(url, { timeout: DEADLINE_MS, ...options });
    this.#socket.connect();
  }

  get url() {
    return this.#socket.endPointURL();
  }

  /** Resolves to the reply, `{ status, response }`; so do the others. */
  join(topic) {
    this.#channel = this.#socket.channel(topic, {});
    this.#channel.on("bcast", (payload) => this.broadcasts.push(payload));
    return replyTo(this.#channel.join());
  }

  ask(event, payload) {
    return replyTo(this.#channel.push(event, payload));
  }

  tell(event, payload) {
    this.#channel.push(event, payload);
  }

  leave() {
    return replyTo(this.#channel.leave());
  }

  close() {
    this.#socket.disconnect();
  }
}

/**
 * Supabase's client. It keeps the response of a reply to itself, so replies are `{ status }`; what it sends has
 * the event among its payload, as `type`.
 */
class RealtimeVisitor {
  #client;
  #channel;

  broadcasts = [];

  constructor(url, vsn) {
    this.#client = new RealtimeClient(url, { transport: WebSocket, vsn, params: { apikey: "none" } });
  }

  get url() {
    return this.#client.endpointURL();
  }

  join(topic) {
    this.#channel = new RealtimeChannel(topic, { config: {} }, this.#client);
    this.#channel.on("bcast", {}, ({ type, ...payload }) => this.broadcasts.push(payload));
    return new Promise((resolve) => {
      this.#channel.subscribe((state) => resolve({ status: STATUS[state] ?? state }), DEADLINE_MS);
    });
  }

  async ask(event, payload) {
    return { status: await this.#channel.send({ type: event, ...payload }) };
  }

  tell(event, payload) {
    this.#channel.send({ type: event, ...payload });
  }

  async leave() {
    return { status: await this.#channel.unsubscribe() };
  }

  close() {
    this.#client.disconnect();
  }
}

const STATUS = { SUBSCRIBED: "ok", CHANNEL_ERROR: "error" };

function replyTo(push) {
  return new Promise((resolve) => {
    for (const status of ["ok", "error", "timeout"]) {
      push.receive(status, (response) => resolve({ status, response }));
    }
  });
}
