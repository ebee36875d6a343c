// The strip on top: what the server does now, in eight tiles.
import { Sparkline } from "./charts.js";
import { h, write } from "./dom.js";
import { bytes, count, milliseconds, percent, plural, rate, short } from "./format.js";

// From here on a number is worth a look.
const NEARLY_FULL = 0.9;
const SLOW_COMMIT_MS = 1_000;

const nearlyFull = (used, most) => most > 0 && used >= most * NEARLY_FULL;

const TILES = [
  {
    label: "Connections",
    field: "connections",
    value: (s) => short(s.connections),
    note: (s) => `of ${count(s.connections_max)}`,
    wrong: (s) => nearlyFull(s.connections, s.connections_max),
  },
  {
    label: "Joins/s",
    field: "joins",
    value: (s) => rate(s.joins),
    note: (s) => plural(s.channels, "channel"),
  },
  {
    label: "Messages/s",
    field: "messages",
    value: (s) => rate(s.messages),
    note: (s) => plural(s.topics, "topic"),
  },
  {
    label: "Deliveries/s",
    field: "deliveries",
    value: (s) => rate(s.deliveries),
    note: (s) => `${bytes(s.outbox_bytes)} waiting`,
  },
  {
    label: "Commit lag p99",
    field: "commit_lag_ms",
    value: (s) => milliseconds(s.commit_lag_ms),
    note: (s) => (s.commit_lag_ms == null ? "no commits" : `${plural(s.queue_rows, "row")} queued`),
    wrong: (s) => s.commit_lag_ms >= SLOW_COMMIT_MS,
  },
  {
    label: "Spool",
    field: "spool_rows",
    value: (s) => short(s.spool_rows),
    note: (s) => (s.spool_rows > 0 ? "rows wait on disk" : "nothing waits"),
    wrong: (s) => s.spool_rows > 0,
  },
  {
    label: "Memory",
    field: "memory_bytes",
    value: (s) => bytes(s.memory_bytes),
    note: (s) => `${short(s.open_files)} of ${short(s.max_files)} files`,
    wrong: (s) => nearlyFull(s.open_files, s.max_files),
  },
  { label: "CPU", field: "cpu", value: (s) => percent(s.cpu), note: () => "of one core" },
];

export class Strip {
  constructor(parent) {
    this.tiles = TILES.map((tile) => {
      const value = h("dd", { class: "value" }, "–");
      const note = h("dd", { class: "note" });
      const spark = new Sparkline();
      const node = h("div", { class: "tile" }, h("dt", {}, tile.label), value, note);
      note.after(h("dd", { class: "spark-box", "aria-hidden": "true" }, spark.node));
      parent.append(node);
      return { ...tile, node, valueNode: value, noteNode: note, spark };
    });
  }

  begin(history) {
    for (const { field, spark } of this.tiles) spark.begin([...(history?.[field] ?? [])]);
  }

  show(snapshot) {
    for (const tile of this.tiles) {
      write(tile.valueNode, tile.value(snapshot));
      write(tile.noteNode, tile.note(snapshot));
      tile.node.classList.toggle("wrong", tile.wrong?.(snapshot) ?? false);
      tile.spark.add(snapshot[tile.field]);
    }
  }
}
