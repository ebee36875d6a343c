// Who is connected: search, disconnect, revoke, ban, mute.
import {
  askOnce,
  attempt,
  button,
  choice,
  field,
  h,
  named,
  panel,
  quoted,
  table,
  text,
  write,
} from "./dom.js";
import { ago, bytes, count, date, plural, until } from "./format.js";

const SHOWN_TOPICS = 3;
export const TIMES = [
  [600, "10 minutes"],
  [3_600, "1 hour"],
  [86_400, "1 day"],
  [604_800, "1 week"],
  [315_360_000, "For ever"],
];
const KINDS = { user: "User", address: "Address" };
const BANS = { ban: "Ban", mute: "Mute" };

export const peopleHash = (by, value) => `#/people/${by}/${encodeURIComponent(value)}`;

export function userLink(user) {
  if (user == null) return h("span", { class: "nobody" }, "no user");
  return h("a", { class: "row-link", href: peopleHash("user", user) }, named(user));
}

export function addressLink(address) {
  if (address == null) return h("span", { class: "nobody" }, "unknown");
  return h("a", { class: "row-link", href: peopleHash("address", address) }, named(address));
}

export function people(app, [by, value]) {
  const query = KINDS[by] && value ? { [by]: value } : {};
  const found = connectionTable(app);
  const bans = banTable(app);
  const banned = h("span", { class: "count" });
  const total = h("p", { class: "total", role: "status" });
  const sum = h("p", { class: "subject-sum" });
  const foundPanel = panel(value ? "Their connections" : "Newest connections", [total], found.node);
  return {
    node: h(
      "div",
      { class: "people" },
      h("h2", { class: "hidden", tabindex: "-1" }, "People"),
      searchForm(app, by, value),
      value && KINDS[by] ? actions(app, by, value, sum) : null,
      foundPanel,
      panel(
        "Bans and mutes",
        [banned, button("Ban or mute…", () => ban(app, by, value), "small")],
        bans.node,
      ),
    ),
    async refresh() {
      const [people, held] = await Promise.all([app.ask("connections", query), app.ask("bans")]);
      found.show(people.connections, (row) => row.connection);
      const shown = people.connections.length;
      write(
        total,
        shown < people.total
          ? `${count(shown)} of ${plural(people.total, "connection")}`
          : plural(people.total, "connection"),
      );
      write(sum, traffic(people.sum));
      bans.show(held.bans, (row) => row.id);
      const all = held.total ?? held.bans.length;
      write(banned, held.bans.length < all ? `${count(held.bans.length)} of ${count(all)}` : count(all));
    },
  };
}

function searchForm(app, by = "user", value = "") {
  const kind = choice(Object.entries(KINDS), { name: "by", id: "people-by" });
  kind.value = KINDS[by] ? by : "user";
  const input = h("input", {
    type: "search",
    name: "value",
    id: "people-value",
    value,
    dir: "auto",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
  });
  const form = h(
    "form",
    { class: "tools", role: "search" },
    field("Search by", kind),
    field("Exactly", input, "grow"),
    h("button", { class: "button primary", type: "submit" }, "Find"),
    value ? h("a", { class: "button", href: "#/people" }, "Everybody") : null,
  );
  form.addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    const wanted = input.value.trim();
    app.go(wanted ? peopleHash(kind.value, wanted) : "#/people");
  });
  return form;
}

// What all connections of a person have received and sent, as the server counts.
function traffic({ received_bytes, sent_bytes, limited }) {
  const over = `${plural(limited, "message")} over a limit`;
  return `received ${bytes(received_bytes)} · sent ${bytes(sent_bytes)} · ${over}`;
}

// What can be done to everybody who was found.
function actions(app, by, value, sum) {
  return h(
    "div",
    { class: "subject" },
    h("p", { class: "subject-name" }, h("span", { class: "subject-kind" }, KINDS[by]), named(value)),
    sum,
    button("Disconnect all…", () => disconnect(app, { [by]: value }, value), "danger"),
    by === "user" ? button("Revoke tokens…", () => revoke(app, value), "danger") : null,
    button("Ban or mute…", () => ban(app, by, value), "danger"),
  );
}

function connectionTable(app) {
  return table(
    "Connections",
    [
      { label: "User", class: "main", make: (cell, row) => void cell.append(userLink(row.user)) },
      { label: "Address", class: "address", make: (cell, row) => void cell.append(addressLink(row.address)) },
      text("Transport", (row) => row.transport, "spare"),
      text("Here for", (row) => ago(row.since)),
      { label: "Rooms", class: "topics wide", make: topicsCell },
      text("Waiting", (row) => bytes(row.outbox_bytes), "number spare"),
      text("Received", (row) => bytes(row.received_bytes), "number spare"),
      text("Sent", (row) => bytes(row.sent_bytes), "number spare"),
      text("Over limits", (row) => count(row.limited), "number spare"),
      {
        label: "Actions",
        class: "actions",
        make(cell, row) {
          const who = row.user ?? row.address ?? row.connection;
          const end = () => disconnect(app, { connection: row.connection }, who);
          cell.append(button("Disconnect", end, "small", { "aria-label": `Disconnect ${who}` }));
        },
      },
    ],
    "Nobody is connected.",
  );
}

function topicsCell(cell) {
  return ({ channels }) => {
    const key = channels.join("\n");
    if (cell.dataset.topics === key) return;
    cell.dataset.topics = key;
    const links = channels
      .slice(0, SHOWN_TOPICS)
      .map((topic) =>
        h("a", { class: "topic-link", href: `#/rooms/${encodeURIComponent(topic)}` }, named(topic)),
      );
    const more = channels.length - links.length;
    const rest =
      more > 0
        ? h(
            "span",
            { class: "nobody", title: channels.slice(SHOWN_TOPICS, 40).join("\n") },
            `+ ${count(more)} more`,
          )
        : null;
    cell.replaceChildren(
      ...(links.length ? links : [h("span", { class: "nobody" }, "none")]),
      ...(rest ? [rest] : []),
    );
  };
}

function banTable(app) {
  return table(
    "Bans and mutes",
    [
      {
        label: "Who",
        class: "main",
        make: (cell, row) =>
          void cell.append(row.user != null ? userLink(row.user) : addressLink(row.address)),
      },
      text("By", (row) => (row.user != null ? "user" : "address")),
      {
        label: "Kind",
        make: (cell, row) =>
          void cell.append(h("span", { class: row.kind === "ban" ? "tag bad" : "tag warn" }, row.kind)),
      },
      {
        label: "Ends",
        make: (cell) => (row) => {
          write(cell, until(row.until));
          cell.title = date(row.until * 1_000);
        },
      },
      {
        label: "Actions",
        class: "actions",
        make: (cell, row) =>
          void cell.append(
            button("Lift", () => lift(app, row), "small", {
              "aria-label": `Lift the ${row.kind} of ${row.user ?? row.address}`,
            }),
          ),
      },
    ],
    "Nobody is banned or muted.",
  );
}

// ---- actions -------------------------------------------------------------

async function disconnect(app, whom, name) {
  const all = whom.connection === undefined;
  const sure = await askOnce({
    title: all ? "Disconnect all of these?" : "Disconnect this connection?",
    body: [
      quoted(name),
      whom.connection ? h("p", {}, "Connection ", named(whom.connection), ".") : null,
      "The client may come back at once. To keep it away, ban it.",
    ].filter(Boolean),
    yes: "Disconnect",
    danger: true,
  });
  if (!sure) return;
  await attempt(
    () => app.ask("disconnect", whom),
    ({ disconnected }) =>
      disconnected === 0 ? "Nobody was connected any more." : `${plural(disconnected, "connection")} ended.`,
  );
  app.refresh();
  // By then a client is back that comes back at once.
  setTimeout(app.refresh, 500);
}

async function revoke(app, user) {
  const wanted = await askOnce({
    title: "Revoke the tokens of this user?",
    body: [
      quoted(user),
      "Tokens that were issued before now are refused, and the user’s connections end. A new token works.",
    ],
    fields: [field("As long as such tokens may live", choice(TIMES, { name: "seconds" }))],
    yes: "Revoke",
    danger: true,
  });
  if (!wanted) return;
  await attempt(
    () => app.ask("revoke", { user, seconds: Number(wanted.seconds) }),
    "The tokens are revoked.",
  );
  app.refresh();
}

async function ban(app, by = "user", value = "") {
  const who = choice(Object.entries(KINDS), { name: "by" });
  who.value = KINDS[by] ? by : "user";
  const kind = choice(Object.entries(BANS), { name: "kind" });
  kind.addEventListener("change", () => write(kind.form.querySelector("[value=yes]"), BANS[kind.value]));
  const wanted = await askOnce({
    title: "Ban or mute",
    body: ["Who is banned can’t connect. Who is muted can read, but write nothing."],
    fields: [
      field("What", kind),
      field("By", who),
      field(
        "Who exactly",
        h("input", {
          name: "value",
          type: "text",
          value,
          required: true,
          dir: "auto",
          autocomplete: "off",
          autocapitalize: "none",
          spellcheck: "false",
        }),
      ),
      field("For how long", choice(TIMES, { name: "seconds" })),
    ],
    yes: BANS.ban,
    danger: true,
  });
  if (!wanted) return;
  const request = { [wanted.by]: wanted.value.trim(), seconds: Number(wanted.seconds), kind: wanted.kind };
  await attempt(() => app.ask("ban", request), wanted.kind === "ban" ? "The ban is on." : "The mute is on.");
  app.refresh();
}

async function lift(app, row) {
  const name = row.user ?? row.address;
  const sure = await askOnce({ title: `Lift this ${row.kind}?`, body: [quoted(name)], yes: "Lift" });
  if (!sure) return;
  await attempt(
    () => app.ask("unban", { id: row.id }),
    row.kind === "ban" ? "The ban is lifted." : "The mute is lifted.",
  );
  app.refresh();
}
