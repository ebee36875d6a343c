// A member of a room with an unmodified phoenix.js, written as docs/HISTORY.md says.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import { Socket } from "phoenix-1.8";
import WebSocket from "ws";

/** How long a shout waits for its answer before it is repeated. */
const ANSWER_MS = 5_000;

export class Member {
  /** The marks of the messages in the order in which they came; `null` where the history has taken over. */
  seen = [];
  /** `{at, ms, resumed}` of each time it was away: when it came back, after how long, and whether it has missed nothing. */
  absences = [];
  /** The marks of its own messages that the server has confirmed. */
  confirmed = [];
  #socket;
  #channel;
  #lastId;
  #awaySince;
  #isSending = false;
  #sent = 0;

  constructor(url, topic, name) {
    this.topic = topic;
    this.name = name;
    this.#socket = new Socket(url, { transport: WebSocket });
    this.#socket.onClose(() => (this.#awaySince ??= performance.now()));
    const params = () => ({ meta: true, ack: true, history: "none", last_seen_id: this.#lastId });
    this.#channel = this.#socket.channel(topic, params);
    this.#channel.on("shout", ({ mark, _meta }) => {
      this.#lastId = _meta.id;
      this.seen.push(mark);
    });
  }

  /** Resolves once it has joined for the first time. */
  join() {
    this.#socket.connect();
    return new Promise((resolve, reject) => {
      const joined = (reply) => {
        this.#joined(reply);
        resolve();
      };
      this.#channel.join().receive("ok", joined).receive("error", (reply) => {
        // The server is about to end, or Redis is away: phoenix.js joins again by itself.
        if (!this.#lastId) reject(new Error(`${this.name} may not join: ${JSON.stringify(reply)}`));
      });
    });
  }

  #joined({ recovered, last_id }) {
    if (this.#awaySince !== undefined) {
      const now = performance.now();
      this.absences.push({ at: now, ms: now - this.#awaySince, resumed: recovered });
      this.#awaySince = undefined;
    }
    if (this.#lastId === undefined || !recovered) {
      if (this.#lastId !== undefined) this.seen.push(null);
      this.#lastId = last_id;
    }
  }

  /** Shouts, and repeats what is not confirmed, until `stopSending`. */
  async send(paceMs) {
    this.#isSending = true;
    while (this.#isSending) {
      const mark = `${this.name}-${this.#sent++}`;
      const client_ref = randomUUID();
      while (!(await this.#shout({ mark, client_ref })));
      this.confirmed.push(mark);
      await pause(paceMs);
    }
  }

  stopSending() {
    this.#isSending = false;
  }

  /** Whether the message is confirmed. If not, it is to be repeated now. */
  #shout(message) {
    return new Promise((resolve, reject) => {
      this.#channel
        .push("shout", message, ANSWER_MS)
        .receive("ok", () => resolve(true))
        .receive("timeout", () => resolve(false))
        .receive("error", ({ reason, retry_after_ms }) => {
          if (!["unconfirmed", "storage unavailable"].includes(reason)) return reject(new Error(reason));
          setTimeout(() => resolve(false), retry_after_ms ?? 1_000);
        });
    });
  }

  leave() {
    this.#socket.disconnect();
  }
}
