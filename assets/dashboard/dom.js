// Elements, tables, dialogs. What a client may have written goes in as text, never as markup.
import { bytes, cut, json } from "./format.js";

const SHOWN_NAME = 240;
const SHOWN_PAYLOAD = 400;
const SAID_MS = 6_000;

export const $ = (id) => document.getElementById(id);

// `props`: attributes; `on`: listeners by event. Children: nodes or texts; null is left out.
export function h(tag, { on = {}, ...props } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  node.append(...children.filter((child) => child != null));
  return node;
}

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A name that a client chose: topic, user, event.
export function writeName(node, name) {
  const text = String(name);
  write(node, text.trim() === "" ? `“${text}”` : cut(text, SHOWN_NAME));
  if (text.length > SHOWN_NAME) node.title = cut(text, 2_000);
  else node.removeAttribute("title");
}

export function named(name, props = {}) {
  const node = h("bdi", { ...props, class: `name ${props.class ?? ""}` });
  writeName(node, name);
  return node;
}

// JSON of a client, the whole of it on demand. Of a very long one the server sends the beginning.
export function payload(value) {
  if (typeof value?._cut === "string") {
    const note = h("span", { class: "nobody" }, ` (${bytes(value._bytes)} in all)`);
    return h("span", { class: "long" }, payloadText(value._cut, "Show"), note);
  }
  return payloadText(json(value));
}

function payloadText(text, show = "Show all") {
  const code = h("code", { class: "payload", dir: "auto" }, cut(text, SHOWN_PAYLOAD));
  if (text.length <= SHOWN_PAYLOAD) return code;
  const all = h(
    "button",
    { class: "link", type: "button" },
    `${show} ${text.length.toLocaleString("en")} characters`,
  );
  all.addEventListener("click", () => {
    code.textContent = text;
    all.remove();
  });
  return h("span", { class: "long" }, code, all);
}

// ---- lists that keep their nodes -----------------------------------------

const kept = new WeakMap();

// Makes `parent` show `items`. A node stays the same as long as its key does, so that a
// refresh takes neither focus nor selection away. `make(item)` gives `{ node, update? }`.
export function fill(parent, items, keyOf, make) {
  const focused = document.activeElement;
  const before = kept.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const row = before.get(key) ?? make(item);
    row.update?.(item);
    now.set(key, row);
  }
  for (const [key, row] of before) if (!now.has(key)) row.node.remove();
  let next = parent.firstElementChild;
  for (const { node } of now.values()) {
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
  kept.set(parent, now);
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

// `columns`: `{ label, class?, make(cell, row) → update(row)? }`. On a narrow screen a row is a
// card, so the roles are written out: the display of a table's parts changes there.
export function table(caption, columns, empty) {
  const heads = columns.map((column) =>
    h("th", { role: "columnheader", scope: "col", class: column.class }, column.head ?? column.label),
  );
  const body = h("tbody", { role: "rowgroup" });
  const rows = h(
    "table",
    { role: "table", "aria-label": caption, hidden: true },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)),
    body,
  );
  const nothing = h("p", { class: "empty" }, empty);
  const make = (item) => {
    const updates = [];
    const cells = columns.map((column) => {
      const cell = h("td", { role: "cell", class: column.class, "data-label": column.label });
      updates.push(column.make(cell, item) ?? (() => {}));
      return cell;
    });
    return {
      node: h("tr", { role: "row" }, ...cells),
      update: (row) => updates.forEach((update) => update(row)),
    };
  };
  return {
    node: h("div", { class: "table" }, rows, nothing),
    heads,
    show(items, keyOf) {
      fill(body, items, keyOf, make);
      rows.hidden = items.length === 0;
      nothing.hidden = items.length > 0;
    },
    explain(...children) {
      nothing.replaceChildren(...children);
    },
  };
}

// A column of plain text.
export function text(label, value, className) {
  return { label, class: className, make: (cell) => (row) => write(cell, value(row)) };
}

export function number(label, value) {
  return text(label, value, "number");
}

// ---- panels, fields ------------------------------------------------------

export function panel(title, tools, ...children) {
  const id = `panel-${title.toLowerCase().replace(/\W+/g, "-")}`;
  const heading = h("h3", { id, tabindex: "-1" }, title);
  return h(
    "section",
    { class: "panel", "aria-labelledby": id },
    h("header", { class: "panel-head" }, heading, ...tools),
    ...children,
  );
}

export function field(label, input, className = "") {
  return h("label", { class: `field ${className}` }, h("span", {}, label), input);
}

export function choice(options, props = {}) {
  return h("select", props, ...options.map(([value, label]) => h("option", { value }, label)));
}

export function button(label, listener, className = "", props = {}) {
  return h(
    "button",
    { class: `button ${className}`, type: "button", ...props, on: { click: listener } },
    label,
  );
}

// ---- dialogs -------------------------------------------------------------

// Asks once. Gives the values of the form by name, or null. `fields`: elements from `field`.
export function askOnce({ title, body = [], fields = [], yes, danger = false }) {
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "dialog-title" }, title),
    ...body.map((part) => (typeof part === "string" ? h("p", {}, part) : part)),
    ...fields,
    h(
      "footer",
      {},
      h("button", { class: "button", type: "button", on: { click: () => dialog.close("no") } }, "Cancel"),
      h("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit", value: "yes" }, yes),
    ),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((decided) => {
    dialog.addEventListener("close", () => {
      const values = Object.fromEntries(new FormData(form));
      decided(dialog.returnValue === "yes" ? values : null);
      dialog.remove();
    });
  });
}

export function quoted(name) {
  return h("p", { class: "quoted" }, named(name));
}

// ---- what happened -------------------------------------------------------

// A mistake stays until somebody closes it.
export function say(message, wrong = false) {
  const toast = h(
    "div",
    { class: wrong ? "toast wrong" : "toast" },
    h("p", { dir: "auto" }, cut(message, 500)),
  );
  toast.append(h("button", { class: "link", type: "button", on: { click: () => toast.remove() } }, "Close"));
  const toasts = $("toasts");
  while (toasts.childElementCount > 3) toasts.firstElementChild.remove();
  toasts.append(toast);
  if (!wrong) setTimeout(() => toast.remove(), SAID_MS);
}

// Runs an action of the operator and says how it went.
export async function attempt(action, done) {
  try {
    const result = await action();
    if (done) say(typeof done === "function" ? done(result) : done);
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}
