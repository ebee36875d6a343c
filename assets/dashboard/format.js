// Numbers, sizes and times in words.
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const DAY = 86_400;
const FOR_EVER = 5 * 365 * DAY;

export const NOTHING = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
  return known(value) ? WHOLE.format(value) : NOTHING;
}

// As it fits into a tile or beside an axis.
export function short(value) {
  if (!known(value)) return NOTHING;
  return Math.abs(value) < 100_000 ? WHOLE.format(value) : SHORT.format(value);
}

export function rate(value) {
  if (!known(value)) return NOTHING;
  return value > 0 && value < 10 ? TENTH.format(value) : short(value);
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function bytes(value) {
  if (!known(value)) return NOTHING;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let size = value;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1_000;
    unit += 1;
  }
  return `${unit > 0 && size < 99.95 ? TENTH.format(size) : WHOLE.format(size)} ${units[unit]}`;
}

export function milliseconds(value) {
  if (!known(value)) return NOTHING;
  if (value >= 1_000) return `${TENTH.format(value / 1_000)} s`;
  return `${value < 10 ? TENTH.format(value) : WHOLE.format(value)} ms`;
}

export function percent(fraction) {
  return known(fraction) ? `${WHOLE.format(fraction * 100)} %` : NOTHING;
}

export function duration(seconds) {
  if (!known(seconds)) return NOTHING;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min`;
  if (s < DAY) return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
  return `${Math.floor(s / DAY)} d ${Math.floor((s % DAY) / 3_600)} h`;
}

const two = (value) => String(value).padStart(2, "0");

// The operator's own time of day, as their watch shows it.
export function clock(ms) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return NOTHING;
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function date(ms) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return NOTHING;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

// Today the time is enough.
export function moment(ms) {
  return new Date(ms).toDateString() === new Date().toDateString() ? clock(ms) : date(ms);
}

export function ago(unixSeconds) {
  return known(unixSeconds) ? duration(Date.now() / 1_000 - unixSeconds) : NOTHING;
}

// The end of a ban or of a certificate.
export function until(unixSeconds) {
  if (!known(unixSeconds)) return NOTHING;
  const left = unixSeconds - Date.now() / 1_000;
  if (left > FOR_EVER) return "for ever";
  return left < 0 ? `${duration(-left)} ago` : `in ${duration(left)}`;
}

// How the settings call what a room keeps.
export function history({ saved, durability }) {
  return saved ? `saved, ${durability}` : "none";
}

export function json(value) {
  return JSON.stringify(value) ?? "";
}

// The first characters, without half a character at the end.
export function cut(text, length) {
  if (text.length <= length) return text;
  const high = /[\ud800-\udbff]$/;
  return `${text.slice(0, length).replace(high, "")}…`;
}
