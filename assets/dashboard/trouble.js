// Warnings and errors, newest first, and what was refused.
import { choice, field, h, named, panel, table, text, write } from "./dom.js";
import { count, cut, date, moment, plural } from "./format.js";

const REFUSED = { full: "server full", address: "too many of one address", files: "no free files" };

export function trouble(app) {
  let errorsOnly = false;
  let entries = [];
  const list = table(
    "Warnings and errors",
    [
      {
        label: "Time",
        class: "time",
        make: (cell, row) => {
          const time = h(
            "time",
            { datetime: new Date(row.at).toISOString(), title: date(row.at) },
            moment(row.at),
          );
          cell.append(time);
        },
      },
      { label: "Level", class: "level", make: (cell, row) => void cell.append(level(row.level)) },
      { label: "Event", class: "main", make: eventCell },
      { label: "What", class: "fields wide", make: fieldsCell },
      text("Times", (row) => count(row.count), "number"),
    ],
    "No warnings and no errors since the server started.",
  );
  const which = choice(
    [
      ["all", "Warnings and errors"],
      ["errors", "Errors only"],
    ],
    { id: "trouble-level" },
  );
  which.addEventListener("change", () => {
    errorsOnly = which.value === "errors";
    show();
  });
  const total = h("p", { class: "total", role: "status" });
  const counts = h("dl", { class: "counts" });

  function show() {
    const shown = errorsOnly ? entries.filter((entry) => entry.level === "ERROR") : entries;
    list.show(shown, (row) => `${row.at} ${row.event} ${row.level} ${JSON.stringify(row.fields)}`);
    list.explain(
      errorsOnly && entries.length > 0
        ? "No errors, only warnings."
        : "No warnings and no errors since the server started.",
    );
    write(total, `${plural(shown.length, "entry", "entries")}, newest first`);
  }

  function showCounts({ slow_consumers: slow, limited = {}, refused = {}, error_replies: errors = {} }) {
    const rows = [["Slow consumers", slow]];
    for (const [limit, hits] of Object.entries(limited))
      rows.push([`Limit hit: ${limit.replaceAll("_", " ")}`, hits]);
    for (const [reason, times] of Object.entries(refused))
      rows.push([`Refused: ${REFUSED[reason] ?? reason.replaceAll("_", " ")}`, times]);
    for (const [reason, times] of Object.entries(errors)) rows.push([`Error reply: ${reason}`, times]);
    counts.replaceChildren(
      ...rows.map(([label, value]) =>
        h(
          "div",
          { class: value > 0 ? "tally some" : "tally" },
          h("dt", {}, label),
          h("dd", {}, count(value)),
        ),
      ),
    );
  }

  return {
    node: h(
      "div",
      { class: "trouble" },
      h("h2", { class: "hidden", tabindex: "-1" }, "Trouble"),
      panel("Since the start", [], counts),
      h("div", { class: "tools" }, field("Show", which), total),
      list.node,
    ),
    async refresh() {
      const now = await app.ask("trouble");
      entries = now.entries;
      showCounts(now);
      show();
    },
  };
}

function level(name) {
  return h(
    "span",
    { class: name === "ERROR" ? "tag bad" : "tag warn" },
    name === "ERROR" ? "error" : "warning",
  );
}

// The event, and what the server says to do.
function eventCell(cell, row) {
  cell.append(named(row.event));
  if (row.advice) cell.append(h("p", { class: "advice" }, row.advice));
}

function fieldsCell(cell, row) {
  const parts = Object.entries(row.fields ?? {}).map(([name, value]) => {
    const shown = typeof value === "string" ? value : JSON.stringify(value);
    return h(
      "span",
      { class: "pair" },
      h("span", { class: "pair-name" }, `${name} `),
      h("bdi", {}, cut(shown ?? "", 400)),
    );
  });
  cell.append(...(parts.length ? parts : ["–"]));
}
