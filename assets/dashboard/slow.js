// Slow mode of one room: each person may send one message in so many seconds.
import { askOnce, attempt, button, choice, field, h, panel, quoted, write } from "./dom.js";
import { date, until } from "./format.js";
import { TIMES } from "./people.js";

const INTERVALS = [
  [5, "5 seconds"],
  [10, "10 seconds"],
  [30, "30 seconds"],
  [60, "1 minute"],
  [300, "5 minutes"],
  [900, "15 minutes"],
  [3_600, "1 hour"],
];
const EVER = "";
const LASTS = [...TIMES.filter(([seconds]) => seconds < 86_400 * 30), [EVER, "Until it is taken away"]];

export class SlowMode {
  constructor(app, topic) {
    this.app = app;
    this.topic = topic;
    this.now = null;
    this.text = h("p", { class: "empty" }, "…");
    this.set = button("Slow down…", () => this.change(), "small");
    this.end = button("Take away", () => this.remove(), "small", { hidden: true });
    this.node = panel("Slow mode", [this.end, this.set], this.text);
  }

  show(now) {
    this.now = now;
    write(this.text, now ? limit(now) : "Off: each person may write as often as the room’s own limits allow.");
    if (now?.until != null) this.text.title = date(now.until * 1_000);
    else this.text.removeAttribute("title");
    write(this.set, now ? "Change…" : "Slow down…");
    this.end.hidden = !now;
    this.node.classList.toggle("is-slow", now != null);
  }

  async change() {
    const known = this.now?.interval ?? 30;
    const intervals = INTERVALS.some(([seconds]) => seconds === known)
      ? INTERVALS
      : [...INTERVALS, [known, span(known)]].sort(([a], [b]) => a - b);
    const interval = choice(intervals, { name: "interval" });
    interval.value = known;
    const lasts = choice(LASTS, { name: "seconds" });
    lasts.value = this.now && this.now.until == null ? EVER : 3_600;
    const wanted = await askOnce({
      title: "Slow this room down",
      body: [
        quoted(this.topic),
        "A person is a user in all tabs, or a connection without a user. A message that comes too early " +
          "is refused, and the client learns how long to wait. Programs are not slowed down.",
      ],
      fields: [field("One message of a person in", interval), field("For how long", lasts)],
      yes: "Slow down",
    });
    if (!wanted) return;
    const request = {
      topic: this.topic,
      interval: Number(wanted.interval),
      seconds: wanted.seconds === EVER ? null : Number(wanted.seconds),
    };
    await attempt(() => this.app.ask("slow_mode", request), "The room is in slow mode.");
    this.app.refresh();
  }

  async remove() {
    const sure = await askOnce({
      title: "Take the slow mode away?",
      body: [quoted(this.topic), "Each person may write again as often as the room’s own limits allow."],
      yes: "Take away",
    });
    if (!sure) return;
    await attempt(() => this.app.ask("end_slow_mode", { topic: this.topic }), "The slow mode is over.");
    this.node.querySelector("h3").focus({ preventScroll: true });
    this.app.refresh();
  }
}

function limit({ interval, until: end }) {
  const ends = end == null ? ", until it is taken away." : `. It ends ${until(end)}.`;
  return `Each person may send one message in ${span(interval)}${ends}`;
}

// Seconds as the choices have them.
function span(seconds) {
  const known = INTERVALS.find(([value]) => value === seconds);
  return known ? known[1] : `${seconds} seconds`;
}
