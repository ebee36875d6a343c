// One room: members, presence, its last messages, what is said in it now.
import {
  askOnce,
  attempt,
  button,
  field,
  fill,
  h,
  named,
  number,
  panel,
  payload,
  table,
  text,
  write,
  writeName,
} from "./dom.js";
import { ago, bytes, clock, count, date, history, json, moment, plural } from "./format.js";
import { userLink, addressLink } from "./people.js";
import { SlowMode } from "./slow.js";

const TAIL_LINES = 300;
const TAIL_TURN_MS = 150;
const NEAR_BOTTOM_PX = 40;
const UNREAD = "The saved messages can’t be read now. The next try follows by itself.";
const EMPTY = "Nothing was written here yet.";
const UNSAVED = "This room saves no messages. The live view shows them as they come.";

export function room(app, [topic]) {
  const members = memberTable();
  const tail = new Tail(app, topic);
  const slow = new SlowMode(app, topic);
  const messages = h("ol", { class: "lines", tabindex: "0", "aria-label": "Last messages" });
  const noMessages = h("p", { class: "empty" });
  const presence = h("ul", { class: "presence" });
  const noPresence = h("p", { class: "empty" }, "Nobody is present.");
  const summary = h("p", { class: "total" });
  const exported = h(
    "a",
    {
      class: "button small",
      href: `/dashboard/export?topic=${encodeURIComponent(topic)}`,
      download: "",
      hidden: true,
    },
    "Export all",
  );
  const memberCount = h("span", { class: "count" });
  const presenceCount = h("span", { class: "count" });
  const messagePanel = panel("Last messages, newest first", [exported], messages, noMessages);
  const title = h("h2", { class: "room-title", tabindex: "-1", dir: "auto" });
  writeName(title, topic);

  async function remove(message) {
    const sure = await askOnce({
      title: "Delete this message?",
      body: [
        h("div", { class: "quoted" }, payload(message.payload)),
        "It is gone from the saved messages for good. Who has read it keeps it.",
      ],
      yes: "Delete",
      danger: true,
    });
    if (!sure) return;
    await attempt(() => app.ask("delete_message", { topic, id: message.id }), "The message is deleted.");
    messagePanel.querySelector("h3").focus({ preventScroll: true });
    app.refresh();
  }

  function show(now) {
    const { saved, mode } = now.history;
    const joins = mode ? ` · a join gets: ${mode}` : "";
    write(summary, `${plural(now.members_total, "member")} · history: ${history(now.history)}${joins}`);
    members.show(now.members, (row) => row.connection);
    write(
      memberCount,
      now.members.length < now.members_total
        ? `${now.members.length} of ${count(now.members_total)}`
        : count(now.members_total),
    );
    const present = Object.entries(now.presence ?? {});
    write(presenceCount, count(present.length));
    fill(presence, present, ([key]) => key, presenceLine);
    noPresence.hidden = present.length > 0;
    exported.hidden = !saved;
    slow.show(now.slow_mode);
    const newest = [...now.messages].reverse();
    fill(
      messages,
      newest,
      (message) => message.id,
      (message) => messageLine(message, remove),
    );
    messages.hidden = newest.length === 0;
    noMessages.hidden = newest.length > 0;
    write(noMessages, now.messages_unread ? UNREAD : saved ? EMPTY : UNSAVED);
  }

  return {
    node: h(
      "div",
      { class: "room" },
      h(
        "div",
        { class: "room-head" },
        h("a", { class: "back", href: "#/rooms" }, "‹ All rooms"),
        title,
        summary,
      ),
      h(
        "div",
        { class: "columns" },
        h("div", { class: "column" }, tail.node, messagePanel),
        h(
          "div",
          { class: "column" },
          panel("Members", [memberCount], members.node),
          panel("Presence", [presenceCount], presence, noPresence),
          slow.node,
          publishPanel(app, topic),
        ),
      ),
    ),
    refresh: async () => show(await app.ask("topic", { topic })),
    joined: () => tail.resume(),
    lost: () => tail.pause(),
    leave: () => tail.leave(),
  };
}

function memberTable() {
  return table(
    "Members",
    [
      { label: "User", class: "main", make: (cell, row) => void cell.append(userLink(row.user)) },
      { label: "Address", class: "address", make: (cell, row) => void cell.append(addressLink(row.address)) },
      text("Transport", (row) => row.transport),
      text("Here for", (row) => ago(row.since)),
      number("Waiting", (row) => bytes(row.outbox_bytes)),
    ],
    "Nobody is in this room.",
  );
}

function presenceLine([key]) {
  const metas = h("code", { class: "payload", dir: "auto" });
  return {
    node: h("li", {}, named(key), metas),
    update: ([, { metas: list }]) => write(metas, json(list).slice(0, 600)),
  };
}

function messageLine(message, remove) {
  const at = Date.parse(message.inserted_at);
  const label = `Delete the message of ${date(at)}`;
  return {
    node: h(
      "li",
      { class: "line" },
      h("time", { datetime: message.inserted_at, title: date(at) }, moment(at)),
      named(message.event, { class: "event" }),
      payload(message.payload),
      button("Delete", () => remove(message), "small", { "aria-label": label }),
    ),
  };
}

// ---- live ----------------------------------------------------------------

// What is said in the room from now on, as the server pushes it.
class Tail {
  constructor(app, topic) {
    this.app = app;
    this.topic = topic;
    this.until = null;
    this.waiting = [];
    this.skipped = 0;
    this.lines = h("ol", {
      class: "lines live-lines",
      tabindex: "0",
      "aria-label": "Live messages",
      hidden: true,
    });
    this.note = h("p", { class: "empty" }, "Shows each message as it comes, for up to 10 minutes.");
    this.state = h("span", { class: "count", role: "status" });
    this.toggle = button("Start", () => (this.until ? this.stop() : this.start()), "small", {
      "aria-label": "Start the live view",
    });
    this.node = panel("Live", [this.state, this.toggle], this.lines, this.note);
    this.offs = [
      app.on("tail", (message) => this.take(message)),
      app.on("tail_end", (end) => end.topic === topic && this.ended("The live view has ended.")),
    ];
  }

  start() {
    return attempt(async () => {
      const { until } = await this.app.ask("tail", { topic: this.topic });
      this.until = until;
      this.show();
    });
  }

  async stop() {
    if (await attempt(() => this.app.ask("untail"))) this.ended("Stopped.");
  }

  ended(note) {
    this.until = null;
    write(this.note, note);
    this.show();
  }

  show() {
    const live = this.until !== null;
    this.node.classList.toggle("is-live", live);
    write(this.toggle, live ? "Stop" : "Start");
    this.toggle.setAttribute("aria-label", `${live ? "Stop" : "Start"} the live view`);
    write(this.state, live ? `live until ${clock(this.until * 1_000)}` : "");
    const empty = this.lines.childElementCount === 0;
    this.lines.hidden = empty;
    if (live) write(this.note, empty ? "Waiting for the first message." : "");
    this.note.hidden = this.note.textContent === "";
  }

  // A busy room brings thousands a second: they are drawn a few times a second, and only the
  // last ones.
  take(message) {
    if (message.topic !== this.topic || this.until === null) return;
    this.waiting.push(message);
    if (this.waiting.length > TAIL_LINES) {
      this.waiting.shift();
      this.skipped += 1;
    }
    this.turn ??= setTimeout(() => this.draw(), TAIL_TURN_MS);
  }

  draw() {
    this.turn = undefined;
    const { scrollHeight, scrollTop, clientHeight } = this.lines;
    const follows = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    const fresh = this.waiting.map(tailLine);
    if (this.skipped > 0)
      fresh.unshift(h("li", { class: "line gap" }, `${plural(this.skipped, "message")} too fast to show`));
    this.waiting = [];
    this.skipped = 0;
    this.lines.append(...fresh);
    while (this.lines.childElementCount > TAIL_LINES + 1) this.lines.firstElementChild.remove();
    this.show();
    if (follows) this.lines.scrollTop = this.lines.scrollHeight;
  }

  // The server forgets a tail with its connection.
  pause() {
    this.wanted = this.until !== null;
    if (this.wanted) this.ended("The connection is gone; the live view goes on when it is back.");
  }

  resume() {
    if (this.wanted) this.start();
    this.wanted = false;
  }

  leave() {
    clearTimeout(this.turn);
    for (const off of this.offs) off();
    if (this.until !== null) this.app.ask("untail").catch(() => {});
  }
}

function tailLine({ event, payload: body, at }) {
  return h(
    "li",
    { class: "line" },
    h("time", { title: date(at) }, clock(at)),
    named(event, { class: "event" }),
    payload(body),
  );
}

// ---- publish -------------------------------------------------------------

function publishPanel(app, topic) {
  const event = h("input", {
    name: "event",
    type: "text",
    value: "shout",
    required: true,
    autocapitalize: "none",
    spellcheck: "false",
    autocomplete: "off",
  });
  const body = h("textarea", {
    name: "payload",
    rows: "3",
    spellcheck: "false",
    autocapitalize: "none",
    dir: "auto",
  });
  body.value = '{"name": "operator", "message": "This is a test."}';
  const form = h(
    "form",
    { class: "publish" },
    field("Event", event),
    field("Payload (JSON)", body),
    h("button", { class: "button primary", type: "submit" }, "Publish to all members"),
  );
  form.addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    let value;
    try {
      value = JSON.parse(body.value);
    } catch (error) {
      body.setCustomValidity(`This is no JSON: ${error.message}`);
      body.reportValidity();
      return;
    }
    const sent = () => app.ask("publish", { topic, event: event.value, payload: value });
    attempt(sent, "The message is published.").then(app.refresh);
  });
  body.addEventListener("input", () => body.setCustomValidity(""));
  return panel("Publish a test message", [], form);
}
