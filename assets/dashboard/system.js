// How the server is set up, and whether that holds.
import { attempt, button, fill, h, named, panel, table, write, field } from "./dom.js";
import { NOTHING, bytes, count, date, duration, until } from "./format.js";

const REFRESH_MS = 10_000;
const CHECK_MS = 30_000;
const SOON_S = 14 * 86_400;
const LEVELS = { ok: "ok", warn: "warning", fail: "fails" };
const LEVEL_CLASS = { ok: "tag good", warn: "tag warn", fail: "tag bad" };
const SOURCES = { default: "default", file: "file", environment: "environment", flag: "flag" };

export function system(app) {
  let settings = [];
  const list = table(
    "Settings",
    [
      { label: "Name", class: "main", make: (cell, row) => void cell.append(h("code", {}, row.name)) },
      { label: "Value", class: "setting wide", make: valueCell },
      { label: "From", make: sourceCell },
    ],
    "No setting has this in its name.",
  );
  const search = h("input", {
    type: "search",
    id: "setting-name",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
  });
  search.addEventListener("input", showSettings);
  const total = h("p", { class: "total", role: "status" });

  function showSettings() {
    const wanted = search.value.trim().toLowerCase();
    const shown = settings.filter((row) => row.name.toLowerCase().includes(wanted));
    list.show(shown, (row) => row.name);
    write(
      total,
      shown.length === settings.length
        ? `${count(settings.length)} settings`
        : `${count(shown.length)} of ${count(settings.length)} settings`,
    );
  }

  const facts = h("dl", { class: "facts" });
  return {
    every: REFRESH_MS,
    node: h(
      "div",
      { class: "system" },
      h("h2", { class: "hidden", tabindex: "-1" }, "System"),
      h("div", { class: "columns" }, panel("State", [], facts), checkPanel(app)),
      panel(
        "Settings",
        [total],
        h("div", { class: "tools" }, field("Name contains", search, "grow")),
        list.node,
      ),
    ),
    async refresh() {
      const now = await app.ask("system");
      settings = now.settings;
      showSettings();
      fill(facts, factsOf(now), ([label]) => label, factLine);
    },
  };
}

function valueCell(cell) {
  const value = h("code", {});
  cell.append(value);
  return (row) => write(value, row.value == null ? "–" : String(row.value));
}

function sourceCell(cell) {
  const source = h("span", {});
  cell.append(source);
  return (row) => {
    source.className = row.source === "default" ? "tag" : "tag saved";
    write(source, SOURCES[row.source] ?? String(row.source));
  };
}

function factsOf({ database, migrations, certificate_expires: expires, jwks_age: jwks, other_servers: others, cluster }) {
  const left = expires == null ? null : expires - Date.now() / 1_000;
  return [
    ["Database", database?.url ?? "none"],
    ["Database size", bytes(database?.bytes)],
    ["Write-ahead log", bytes(database?.wal_bytes)],
    ["Migrations", migrationsOf(migrations), migrations?.lacking > 0],
    [
      "Certificate",
      expires == null ? NOTHING : `ends ${until(expires)} (${date(expires * 1_000).slice(0, 10)})`,
      left !== null && left < SOON_S,
    ],
    ["Keys (JWKS)", jwks == null ? NOTHING : `fetched ${duration(jwks)} ago`],
    ["Other servers", others?.length ? others.join(", ") : "none"],
    ...nodesOf(cluster),
  ];
}

/** Whether the database has the tables of this version. */
function migrationsOf(migrations) {
  if (!migrations) return NOTHING;
  const { lacking, later } = migrations;
  if (lacking > 0) return `${count(lacking)} not run: restart the server, or run slackir migrate`;
  return later > 0 ? `all run, and ${count(later)} of a later version` : "all run";
}

function factLine([label]) {
  const value = h("dd", {});
  const node = h("div", {}, h("dt", {}, label), value);
  return {
    node,
    update([, shown, wrong = false]) {
      write(value, shown);
      node.classList.toggle("wrong", wrong);
    },
  };
}

// ---- check ---------------------------------------------------------------

function checkPanel(app) {
  const lines = h("ul", { class: "check" });
  const note = h(
    "p",
    { class: "empty" },
    "Looks whether database, files, certificate and limits are as they should be.",
  );
  const run = button("Check now", check, "primary small");
  const result = panel("Check", [run], h("div", { role: "status" }, lines, note));

  async function check() {
    run.disabled = true;
    write(run, "Checking …");
    await attempt(async () => {
      const answer = await app.ask("check", {}, CHECK_MS);
      lines.replaceChildren(...answer.lines.map(checkLine));
      const failed = answer.lines.filter((line) => line.level !== "ok").length;
      write(note, failed === 0 ? "All is well." : `${failed} of ${answer.lines.length} need a look.`);
    });
    write(run, "Check now");
    run.disabled = false;
  }
  return result;
}

function checkLine({ level, name, text: sentence }) {
  return h(
    "li",
    {},
    h("span", { class: LEVEL_CLASS[level] ?? "tag" }, LEVELS[level] ?? level),
    named(name, { class: "check-name" }),
    h("span", { class: "check-text", dir: "auto" }, sentence),
  );
}

/** The nodes of a cluster, in words; nothing for a server alone. */
function nodesOf(cluster) {
  if (!cluster) return [];
  const named = cluster.nodes.map(({ name, leaving, is_this: mine }) =>
    name + (mine ? " (this)" : "") + (leaving ? " (leaving)" : ""));
  return [["Nodes", named.join(", ") || "none"], [cluster.bus, cluster.is_up ? "reached" : "away"]];
}
