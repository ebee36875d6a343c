// What the clients need of a browser to long-poll: `window` with XMLHttpRequest, for most of them already while
// they load. It has no WebSocket and no fetch, so no client can pick another transport by itself.

const UNSENT = 0;
const OPENED = 1;
const DONE = 4;

/** The query parameter that names the page of a request. */
const PAGE = "page";

const pages = new Map();

/** A page in the browser: every request that carries its `params` is its own. */
export class Page {
  static #opened = 0;

  #name;
  #note;
  #pending = new Set();

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

  async #exchange(body) {
    const { signal } = this.#cancellation;
    try {
      const response = await fetch(this.#url, { method: this.#method, headers: this.#headers, body, signal });
      return [response.status, await response.text(), "onload"];
    } catch (error) {
      return [`failed: ${error.cause ?? error}`, "", "onerror"];
    }
  }

  #end(outcome, text, event) {
    if (!this.#isPending) return;
    this.vanish();
    this.#page.ended(this, this.#method, outcome, text);
    this.responseText = text;
    this.readyState = DONE;
    this.onreadystatechange?.();
    this[event]?.();
  }
}

globalThis.window = { XMLHttpRequest };
