// The rooms that are open: search by prefix, sorted by the server.
import { button, choice, field, h, named, number, table, text, write } from "./dom.js";
import { NOTHING, ago, count, history, plural, rate } from "./format.js";

const TYPING_MS = 250;
const SORTS = [
  ["members", "Most members"],
  ["messages", "Most messages"],
  ["topic", "Topic"],
];

// What the operator last asked for, for the way back from one room.
const asked = { prefix: "", sort: "members" };

export const roomLink = (topic) => `#/rooms/${encodeURIComponent(topic)}`;

export function rooms(app) {
  const rates = new Rates();
  let most = 1;
  const list = table(
    "Rooms",
    [
      { label: "Topic", class: "main", head: sortHead("topic", "Topic"), make: topicCell },
      { label: "Members", class: "number members", head: sortHead("members", "Members"), make: membersCell },
      number("Messages/s", (row) => rate(row.rate)),
      { ...number("Messages", (row) => count(row.messages)), head: sortHead("messages", "Messages") },
      text("Last message", (row) => since(row.last_message_at), "last"),
      { label: "History", class: "history", make: historyCell },
    ],
    "Nobody has joined a room.",
  );

  function topicCell(cell, row) {
    cell.append(h("a", { class: "row-link", href: roomLink(row.topic) }, named(row.topic)));
  }

  function membersCell(cell) {
    const bar = h("span", { class: "bar-share", "aria-hidden": "true" });
    const value = h("span", {});
    cell.append(h("span", { class: "share" }, value, bar));
    return (row) => {
      write(value, count(row.members));
      bar.style.setProperty("--share", row.members / most);
    };
  }

  function historyCell(cell) {
    const badge = h("span", {});
    cell.append(badge);
    return (row) => {
      badge.className = row.history.saved ? "tag saved" : "tag";
      write(badge, history(row.history));
    };
  }

  function sortHead(sort, label) {
    return button(label, () => sortBy(sort), "sort", { "data-sort": sort });
  }

  const search = h("input", {
    type: "search",
    id: "room-prefix",
    value: asked.prefix,
    dir: "auto",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    placeholder: "for example chat:",
  });
  const order = choice(SORTS, { id: "room-sort" });
  const total = h("p", { class: "total", role: "status" });
  let typing;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      asked.prefix = search.value;
      app.refresh();
    }, TYPING_MS);
  });
  order.addEventListener("change", () => sortBy(order.value));

  function sortBy(sort) {
    asked.sort = sort;
    showSort();
    app.refresh();
  }

  function showSort() {
    order.value = asked.sort;
    for (const head of list.heads) {
      const { sort } = head.querySelector("button")?.dataset ?? {};
      if (!sort) continue;
      if (sort === asked.sort) head.setAttribute("aria-sort", sort === "topic" ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  }

  showSort();
  return {
    node: h(
      "div",
      { class: "rooms" },
      h("h2", { class: "hidden", tabindex: "-1" }, "Rooms"),
      h(
        "div",
        { class: "tools" },
        field("Topic begins with", search, "grow"),
        field("Sorted by", order),
        total,
      ),
      list.node,
    ),
    async refresh() {
      const { prefix, sort } = asked;
      const { topics, total: all } = await app.ask("topics", { prefix, sort });
      if (prefix !== asked.prefix || sort !== asked.sort) return;
      most = Math.max(1, ...topics.map((row) => row.members));
      for (const row of topics) row.rate = rates.of(row);
      list.show(topics, (row) => row.topic);
      list.explain(...nothing(prefix));
      const shown =
        topics.length < all ? `${count(topics.length)} of ${plural(all, "room")}` : plural(all, "room");
      write(total, shown);
    },
    leave: () => clearTimeout(typing),
  };
}

function since(at) {
  return at == null ? NOTHING : `${ago(at)} ago`;
}

// A saved room has messages even while nobody is in it.
function nothing(prefix) {
  if (!prefix) return ["Nobody has joined a room."];
  return [
    "No open room begins with ",
    named(prefix),
    ". ",
    h("a", { href: roomLink(prefix) }, "Look at it anyway"),
  ];
}

// The server counts messages since a room is open; the page makes a rate of it.
class Rates {
  constructor() {
    this.last = new Map();
  }

  of({ topic, messages }) {
    const now = Date.now();
    const last = this.last.get(topic);
    if (last && now - last.at < 500) return last.rate;
    const fresh = !last || messages < last.messages;
    const perSecond = fresh ? null : ((messages - last.messages) * 1_000) / (now - last.at);
    if (this.last.size > 1_000) this.last.clear();
    this.last.set(topic, { at: now, messages, rate: perSecond });
    return perSecond;
  }
}
