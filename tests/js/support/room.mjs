import WebSocket from "ws";

import { DEADLINE_MS, until } from "./deadline.mjs";

// After a reconnect 1.2 and 1.3 also repeat a join at this interval, and once they do so before its reply
// came, they never recognise a reply again: it has to be longer than any join takes.
const RETRY_MS = 1_000;

// A disconnect of 1.5 lets the heartbeat timer run on: the test process ends only after two intervals.
const HEARTBEAT_MS = 1_500;

// Nothing answers a shout, so its timer would only keep the test process alive.
const SHOUT_TIMEOUT_MS = 100;

/** A topic of its own and everybody connected for it, with one transcript of all their traffic. */
export class Room {
  static #opened = 0;

  #socketUrl;
  #connections = [];
  #transcript = [];
  #openedAt = Date.now();

  constructor(label, socketUrl) {
    Room.#opened += 1;
    this.topic = `random:js-${label}-${Room.#opened}`;
    this.#socketUrl = socketUrl;
  }

  connect(client, name) {
    const note = (text) => this.#note(name, text);
    const connection = new Connection(client, this.#socketUrl, note);
    this.#connections.push(connection);
    return connection;
  }

  /** Connects and joins, and returns the member once its history has come. */
  async enter(client, name) {
    const member = this.connect(client, name).member(this.topic);
    await member.join();
    await member.hears("histories", 1);
    return member;
  }

  /** Runs `steps`; if they fail, the error tells what was on the wire. */
  async witness(steps) {
    try {
      return await steps();
    } catch (error) {
      const transcript = this.#transcript.join("\n");
      throw new Error(`${error.message}\n\nTranscript of ${this.topic}:\n${transcript}\n`, { cause: error });
    }
  }

  close() {
    for (const connection of this.#connections) connection.close();
  }

  #note(name, text) {
    const elapsed = String(Date.now() - this.#openedAt).padStart(6);
    this.#transcript.push(`${elapsed} ms  ${name}  ${text}`);
  }
}

/** One Socket of a client. */
class Connection {
  #socket;

  /** What the server sent, decoded by the client: `{ topic, event, payload, ref }`, V2 with `join_ref`. */
  frames = [];
  closeCodes = [];

  constructor(client, socketUrl, note) {
    this.#socket = new client.Socket(socketUrl, {
      transport: WebSocket,
      timeout: DEADLINE_MS,
      heartbeatIntervalMs: HEARTBEAT_MS,
      reconnectAfterMs: () => RETRY_MS,
      rejoinAfterMs: () => RETRY_MS,
      logger: (kind, text, data) => note(describe(kind, text, data)),
    });
    this.#socket.onMessage((frame) => this.frames.push(frame));
    this.#socket.onClose((event) => {
      note(`transport: closed with ${event.code}`);
      this.closeCodes.push(event.code);
    });
    this.#socket.connect();
  }

  get url() {
    return this.#socket.endPointURL();
  }

  member(topic) {
    return new Member(this, this.#socket.channel(topic, {}));
  }

  framesOf(topic, event) {
    return this.frames.filter((frame) => frame.topic === topic && frame.event === event);
  }

  /** Disconnects for good. A disconnect of the old clients leaves timers running, which would never end. */
  close() {
    for (const channel of [...this.#socket.channels]) channel.leave();
    this.#socket.disconnect();
    this.#socket.reconnectTimer.reset();
    clearInterval(this.#socket.heartbeatTimer);
  }
}

/** One Channel of a connection and everything it heard. */
class Member {
  #channel;

  histories = [];
  shouts = [];
  closes = [];

  constructor(connection, channel) {
    this.connection = connection;
    this.#channel = channel;
    channel.on("messages_history", (history) => this.histories.push(history));
    channel.on("shout", (payload) => this.shouts.push(payload));
    channel.onClose(() => this.closes.push("closed"));
  }

  get state() {
    return this.#channel.state;
  }

  join() {
    return replyTo(`join of ${this.#channel.topic}`, this.#channel.join());
  }

  ask(event, payload) {
    return replyTo(event, this.#channel.push(event, payload));
  }

  shout(payload) {
    this.#channel.push("shout", payload, SHOUT_TIMEOUT_MS);
  }

  leave() {
    this.#channel.leave();
  }

  /** Waits for at least `count` entries in `histories`, `shouts` or `closes`. */
  hears(log, count) {
    return until(`${count} ${log} on ${this.#channel.topic}`, () => this[log].length >= count);
  }

  /**
   * Waits until everything the channel sent so far has arrived: its messages come in order, so what was not
   * heard before the answer to a ping was not sent.
   */
  async settles() {
    const { status } = await this.ask("ping", {});
    if (status !== "ok") throw new Error(`${this.#channel.topic} does not answer a ping: ${status}`);
  }
}

/** Resolves to `{ status, response }`; the status is "timeout" when the server stays silent. */
async function replyTo(what, push) {
  let reply;
  for (const status of ["ok", "error", "timeout"]) {
    push.receive(status, (response) => (reply ??= { status, response }));
  }
  return until(`the reply to ${what}`, () => reply, 2 * DEADLINE_MS);
}

/** One transcript line for what a client logs: some versions log bare DOM events and errors. */
function describe(kind, text, data) {
  const what = typeof text === "string" ? text.trim() : (text?.message ?? text?.type ?? "");
  const details = ["push", "receive"].includes(kind) ? ` ${JSON.stringify(data)}` : "";
  return `${kind}: ${what}${details}`;
}
