// The two charts over 10 minutes, and the small lines of the strip.
import uPlot from "./uplot.mjs";
import { h, write } from "./dom.js";
import { bytes, clock, milliseconds, rate } from "./format.js";

const SECONDS = 600;
const HEIGHT = 132;
const SVG = "http://www.w3.org/2000/svg";

// `least`: how far an axis reaches at least.
const CHARTS = [
  {
    title: "Messages",
    series: [
      { field: "deliveries", label: "deliveries/s", format: rate, least: 10 },
      { field: "messages", label: "messages/s", format: rate, least: 10 },
    ],
  },
  {
    title: "Delay",
    series: [
      { field: "commit_lag_ms", label: "commit lag p99", format: milliseconds, least: 10 },
      { field: "outbox_bytes", label: "outboxes", format: bytes, least: 10_000 },
    ],
  },
];

let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  colors = { line: color("line"), muted: color("muted"), series: [color("series-1"), color("series-2")] };
}

export class Charts {
  constructor(parent) {
    readColors();
    this.data = { at: [] };
    this.charts = CHARTS.map((chart) => new Chart(parent, chart));
    this.observer = new ResizeObserver(() => this.charts.forEach((chart) => chart.resize()));
    this.observer.observe(parent);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      readColors();
      this.draw();
    });
    document.addEventListener("visibilitychange", () => this.draw());
  }

  // The history of the server, with which a fresh page begins.
  begin(history) {
    this.data = { at: [...(history?.at ?? [])].slice(-SECONDS) };
    for (const { field } of CHARTS.flatMap((chart) => chart.series)) {
      const values = [...(history?.[field] ?? [])].slice(-SECONDS);
      this.data[field] = this.data.at.map((_, i) => values[i] ?? null);
    }
    this.draw();
  }

  add(snapshot) {
    const { at } = this.data;
    // A clock that was set back would break the order that the chart needs.
    if (at.length > 0 && snapshot.at <= at.at(-1)) return;
    for (const [field, values] of Object.entries(this.data)) {
      values.push(snapshot[field] ?? null);
      if (values.length > SECONDS) values.shift();
    }
    this.draw();
  }

  draw() {
    if (document.hidden) return;
    for (const chart of this.charts) chart.draw(this.data);
  }
}

class Chart {
  constructor(parent, { title, series }) {
    this.title = title;
    this.series = series;
    this.values = series.map((_, i) => h("b", { class: `series-${i + 1}` }));
    this.at = h("span", { class: "chart-at" });
    this.box = h("div", { class: "chart-box", role: "img" });
    this.node = h(
      "figure",
      { class: "chart" },
      h(
        "figcaption",
        {},
        ...series.map(({ label }, i) => h("span", { class: `key key-${i + 1}` }, label, " ", this.values[i])),
        this.at,
      ),
      this.box,
    );
    parent.append(this.node);
    this.plot = null;
    this.data = null;
  }

  options(width) {
    const axis = (i, side) => ({
      scale: `y${i}`,
      side,
      size: 50,
      gap: 4,
      font: "11px ui-sans-serif, system-ui, sans-serif",
      stroke: () => colors.series[i],
      grid: { show: i === 0, stroke: () => colors.line, width: 1 },
      ticks: { show: false },
      space: 34,
      values: (_, ticks) => ticks.map((tick) => this.series[i].format(tick)),
    });
    // From zero, and never so near that the noise of a quiet server looks like a mountain.
    const range = (i) => (_, __, max) => [0, Math.max((max ?? 0) * 1.1, this.series[i].least)];
    return {
      width,
      height: HEIGHT,
      padding: [8, 0, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: true }, y0: { range: range(0) }, y1: { range: range(1) } },
      axes: [
        {
          size: 22,
          gap: 3,
          incrs: [60, 120, 300, 600],
          space: 60,
          font: "11px ui-sans-serif, system-ui, sans-serif",
          stroke: () => colors.muted,
          grid: { show: false },
          ticks: { show: false },
          values: (_, ticks) => ticks.map((tick) => clock(tick * 1_000).slice(0, 5)),
        },
        axis(0, 3),
        axis(1, 1),
      ],
      series: [
        {},
        ...this.series.map((_, i) => ({
          scale: `y${i}`,
          stroke: () => colors.series[i],
          width: 1.5,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [() => this.tell()] },
    };
  }

  draw(data) {
    this.data = [data.at, ...this.series.map(({ field }) => data[field] ?? [])];
    this.tell();
    const width = this.box.clientWidth;
    if (width === 0) return;
    if (!this.plot) this.plot = new uPlot(this.options(width), this.data, this.box);
    const end = data.at.at(-1) ?? Date.now() / 1_000;
    this.plot.batch(() => {
      this.plot.setData(this.data, false);
      this.plot.setScale("x", { min: end - SECONDS, max: end });
    });
  }

  resize() {
    const width = this.box.clientWidth;
    if (width === 0 || !this.data) return;
    if (!this.plot) this.draw({ at: this.data[0], ...this.fields() });
    else if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  fields() {
    return Object.fromEntries(this.series.map(({ field }, i) => [field, this.data[i + 1]]));
  }

  // The values under the pointer, or the newest.
  tell() {
    const pointed = this.plot?.cursor.idx;
    const index = pointed ?? this.data[0].length - 1;
    const texts = this.series.map(({ format }, i) => format(this.data[i + 1][index]));
    texts.forEach((text, i) => write(this.values[i], text));
    write(this.at, pointed == null ? "" : clock(this.data[0][index] * 1_000));
    if (pointed == null) {
      const now = this.series.map(({ label }, i) => `${label} ${texts[i]}`).join(", ");
      this.box.setAttribute("aria-label", `Chart of the last 10 minutes. Now: ${now}`);
    }
  }
}

// ---- small lines ---------------------------------------------------------

const SPARK_POINTS = 60;
const SPARK_HEIGHT = 20;

// The last minute of one number.
export class Sparkline {
  constructor() {
    this.values = [];
    this.line = document.createElementNS(SVG, "polyline");
    this.node = document.createElementNS(SVG, "svg");
    this.node.setAttribute("class", "spark");
    this.node.setAttribute("viewBox", `0 0 ${SPARK_POINTS - 1} ${SPARK_HEIGHT}`);
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("aria-hidden", "true");
    this.node.append(this.line);
  }

  begin(values) {
    this.values = values.slice(-SPARK_POINTS);
    this.draw();
  }

  add(value) {
    this.values.push(value ?? 0);
    if (this.values.length > SPARK_POINTS) this.values.shift();
    if (!document.hidden) this.draw();
  }

  draw() {
    const top = Math.max(...this.values, 0) || 1;
    const skipped = SPARK_POINTS - this.values.length;
    const points = this.values.map((value, i) => {
      const y = SPARK_HEIGHT - 1 - ((value ?? 0) / top) * (SPARK_HEIGHT - 2);
      return `${skipped + i},${y.toFixed(1)}`;
    });
    this.line.setAttribute("points", points.join(" "));
  }
}
