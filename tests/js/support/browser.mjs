// What the clients need of a browser to long-poll: `window` with XMLHttpRequest, for most of them already while
// they load. It has no WebSocket and no fetch, so no client can take them instead.

import { Agent, request } from "node:http";
import { text } from "node:stream/consumers";

const UNSENT = 0;
const OPENED = 1;
const DONE = 4;

/** The query parameter that names the page of a request. */
const PAGE = "page";

/** How many connections a browser has to one server. */
const CONNECTIONS = 6;

const pages = new Map();

/**
 * A page in a browser of its own: every request that carries its `params` belongs to it, and they share its few
 * connections. With more, or those of earlier pages, some would idle until the server ends them, and a request
 * that was just about to use one would fail.
 */
export class Page {
  static #opened = 0;

  #name;
  #note;
  #pending = new Set();

  agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });

  /** The bodies of the answers so far, by method. */
  answers = { GET: [], POST: [] };

  constructor(note) {
    Page.#opened += 1;
    this.#name = String(Page.#opened);
    this.#note = note;
    pages.set(this.#name, this);
  }

  static of(url) {
    return pages.get(url.searchParams.get(PAGE));
  }

  get params() {
    return { [PAGE]: this.#name };
  }

  started(request, what) {
    this.#pending.add(request);
    this.#note(`http: ${what}`);
  }

  ended(request, method, outcome, body) {
    this.#pending.delete(request);
    this.#note(`http: ${method} ${outcome} ${body}`);
    if (body) this.answers[method].push(body);
  }

  /** Leaves the page: its requests stop without a word, and it makes no others. */
  close() {
    pages.delete(this.#name);
    for (const request of this.#pending) request.vanish();
    this.agent.destroy();
  }
}

/**
 * As much of XMLHttpRequest as the clients use. As in browsers, a failure, a timeout or an abort comes as
 * `onreadystatechange` without any text, and then as the event of its own.
 */
class XMLHttpRequest {
  readyState = UNSENT;
  responseText = "";
  timeout = 0;

  #method;
  #url;
  #page;
  #headers = {};
  #cancellation = new AbortController();
  #timer;
  #isPending = false;

  open(method, url) {
    this.#method = method;
    this.#url = new URL(url);
    this.#page = Page.of(this.#url);
    this.readyState = OPENED;
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  async send(body) {
    if (!this.#page) return;
    this.#isPending = true;
    this.#page.started(this, `${this.#method} ${this.#url.pathname}${this.#url.search} ${body ?? ""}`);
    if (this.timeout) this.#timer = setTimeout(() => this.#end("timed out", "", "ontimeout"), this.timeout);
    this.#end(...(await this.#exchange(body)));
  }

  abort() {
    this.#end("aborted", "", "onabort");
    this.readyState = UNSENT;
  }

  /** Stops without telling its owner. */
  vanish() {
    this.#isPending = false;
    clearTimeout(this.#timer);
    this.#cancellation.abort();
  }

  #exchange(body) {
    return new Promise((resolve) => {
      const fail = (error) => resolve([`failed: ${error.message}`, "", "onerror"]);
      const options = {
        method: this.#method,
        headers: this.#headers,
        agent: this.#page.agent,
        signal: this.#cancellation.signal,
      };
      request(this.#url, options)
        .on("response", (response) => {
          text(response).then((answer) => resolve([response.statusCode, answer, "onload"]), fail);
        })
        .on("error", fail)
        .end(body ?? undefined);
    });
  }

  #end(outcome, answer, event) {
    if (!this.#isPending) return;
    this.vanish();
    this.#page.ended(this, this.#method, outcome, answer);
    this.responseText = answer;
    this.readyState = DONE;
    this.onreadystatechange?.();
    this[event]?.();
  }
}

globalThis.window = { XMLHttpRequest };
