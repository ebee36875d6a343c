import WebSocket from "ws";

import { Page } from "./browser.mjs";
import { HEARTBEAT_MS, disconnect } from "./clients.mjs";
import { DEADLINE_MS, until } from "./deadline.mjs";

// After a reconnect 1.2 and 1.3 also repeat a join at this interval, and once they do so before its reply
// came, they never recognise a reply again: it has to be longer than any join takes.
const RETRY_MS = 1_500;

// For what nothing answers, as a longer timer would only keep the test process alive.
const UNANSWERED_MS = 100;

// The kinds of topics: what their channels answer at any time, and what they greet with after a join.
const KINDS = {
  random: { question: "ping", greeting: "histories" },
  wall: { question: "ping" },
  conf: { question: "echo" },
  presence: { question: "list", greeting: "states" },
  room: { question: "whoami" },
};

// What a member keeps of the events it hears.
const LOGS = {
  histories: "messages_history",
  shouts: "shout",
  broadcasts: "bcast",
  broadcastsOfOthers: "bcast_from",
  binaries: "pushed_binary",
  welcomes: "welcome",
  states: "presence_state",
  diffs: "presence_diff",
};

/** A topic of its own and everybody connected for it, with one transcript of all their traffic. */
export class Room {
  static #opened = 0;

  #socketUrl;
  #kind;
  #connections = [];
  #transcript = [];
  #openedAt = Date.now();

  constructor(label, socketUrl, kind = "random") {
    Room.#opened += 1;
    this.topic = `${kind}:js-${label}-${Room.#opened}`;
    this.#kind = KINDS[kind];
    this.#socketUrl = socketUrl;
  }

  /** The options are those of the client's Socket, and `socketUrl` for a way around the room's own. */
  connect(client, name, { socketUrl = this.#socketUrl, ...options } = {}) {
    const note = (text) => this.#note(name, text);
    const connection = new Connection(client, socketUrl, { question: this.#kind.question, note, options });
    this.#connections.push(connection);
    return connection;
  }

  /** Connects and joins, and returns the member once it has been greeted. */
  async enter(client, name, options) {
    const { greeting } = this.#kind;
    const member = this.connect(client, name, options).member(this.topic);
    await member.join();
    if (greeting) await member.hears(greeting, 1);
    return member;
  }

  /** How connections were lost. */
  get closeCodes() {
    return this.#connections.flatMap(({ closeCodes }) => closeCodes);
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
  #page;
  #question;

  /** What the server sent, decoded by the client: `{ topic, event, payload, ref }`, V2 with `join_ref`. */
  frames = [];
  closeCodes = [];

  /** What it was told of errors: a status or a text. */
  failures = [];

  constructor(client, socketUrl, { question, note, options }) {
    this.#question = question;
    this.#page = new Page(note);
    this.#socket = new client.Socket(socketUrl, {
      transport: WebSocket,
      params: this.#page.params,
      timeout: DEADLINE_MS,
      heartbeatIntervalMs: HEARTBEAT_MS,
      reconnectAfterMs: () => RETRY_MS,
      rejoinAfterMs: () => RETRY_MS,
      logger: (kind, text, data) => note(describe(kind, text, data)),
      ...options,
    });
    this.#socket.onMessage((frame) => this.frames.push(frame));
    this.#socket.onError((error) => this.failures.push(error?.message ?? error));
    this.#socket.onClose((event) => {
      note(`transport: closed with ${event?.code}`);
      this.closeCodes.push(event?.code);
    });
    this.#socket.connect();
  }

  get url() {
    return this.#socket.endPointURL();
  }

  /** The class of the transport in use. */
  get transport() {
    return this.#socket.conn?.constructor;
  }

  /** The answers to its polls so far, if it is long-polling. */
  get polls() {
    return this.#page.answers.GET.map((body) => JSON.parse(body));
  }

  get isConnected() {
    return this.#socket.isConnected();
  }

  /** Whether a client that may fall back found its WebSocket good. */
  get primaryPassedHealthCheck() {
    return this.#socket.primaryPassedHealthCheck;
  }

  member(topic, params = {}) {
    return new Member(this, this.#socket.channel(topic, params), this.#question);
  }

  framesOf(topic, event) {
    return this.frames.filter((frame) => frame.topic === topic && frame.event === event);
  }

  /** Loses its WebSocket without a close frame; the client will connect again. */
  cut() {
    this.#socket.conn.terminate();
  }

  /** Leaves all channels, and disconnects for good. */
  close() {
    for (const channel of [...this.#socket.channels]) channel.leave();
    this.disconnect();
  }

  /** Disconnects for good, without a leave, and ends the polls that old clients leave waiting. */
  disconnect() {
    disconnect(this.#socket);
    this.#page.close();
  }
}

/** One Channel of a connection and everything it heard, in one log per event. */
class Member {
  #question;

  /** What a page would show: the messages of the last history, and what was shouted since. */
  shown = [];
  closes = [];
  errors = [];

  constructor(connection, channel, question) {
    this.connection = connection;
    this.channel = channel;
    this.#question = question;
    for (const [log, event] of Object.entries(LOGS)) {
      this[log] = [];
      channel.on(event, (payload) => this[log].push(payload));
    }
    channel.on("messages_history", ({ messages }) => (this.shown = [...messages]));
    channel.on("shout", (payload) => this.shown.push(payload));
    channel.onClose(() => this.closes.push("closed"));
    channel.onError(() => this.errors.push("error"));
  }

  get state() {
    return this.channel.state;
  }

  join() {
    return replyTo(`join of ${this.channel.topic}`, this.channel.join());
  }

  /** Joins without waiting for the reply. */
  startJoin(timeoutMs) {
    this.channel.join(timeoutMs);
  }

  ask(event, payload) {
    return replyTo(event, this.channel.push(event, payload));
  }

  /** Pushes what gets no reply. */
  tell(event, payload) {
    this.channel.push(event, payload, UNANSWERED_MS);
  }

  shout(payload) {
    this.tell("shout", payload);
  }

  leave() {
    this.channel.leave();
  }

  /** Waits for at least `count` entries in a log. */
  hears(log, count) {
    return until(`${count} ${log} on ${this.channel.topic}`, () => this[log].length >= count);
  }

  /**
   * Waits until everything the channel sent so far has arrived: its messages come in order, so what was not
   * heard before this answer was not sent.
   */
  async settles() {
    const { status } = await this.ask(this.#question, {});
    if (status !== "ok") throw new Error(`${this.channel.topic} does not answer: ${status}`);
  }
}

/** Waits for `count` entries in everybody's log and then for whatever else is on its way. */
export async function everyoneHears(members, log, count) {
  await Promise.all(members.map((member) => member.hears(log, count)));
  await Promise.all(members.map((member) => member.settles()));
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
  const details = ["push", "receive"].includes(kind) ? ` ${JSON.stringify(data, readable)}` : "";
  return `${kind}: ${what}${details}`;
}

function readable(_, value) {
  return value instanceof ArrayBuffer ? `bytes ${Buffer.from(value).toString("hex")}` : value;
}
