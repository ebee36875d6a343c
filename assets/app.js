const GROUP_GAP_MS = 5 * 60_000;
const HISTORY_PATIENCE_MS = 3_000;
const REJOIN_AFTER_CLOSE_MS = 2_000;
const NEAR_BOTTOM_PX = 48;
const NEAR_TOP_PX = 400;
const MAX_ATTEMPTS = 3;
const MAX_REMEMBERED = 500;
const MAX_ROOMS = 8;
const MAX_LISTED = 200;
// Who stops typing without a word is believed to have stopped after this time.
const TYPING_MS = 4_000;
// What the page keeps of the room.
const MAX_MESSAGES = 2_000;
const MAX_CHARACTERS = 10_000_000;
// What it shows of one message and of one name before somebody asks for all of it.
const SHOWN_CHARACTERS = 10_000;
const SHOWN_LINES = 100;
const SHOWN_NAME = 80;

const $ = (id) => document.getElementById(id);
const ui = {
  room: $("room"),
  rooms: $("rooms"),
  recent: $("recent"),
  otherRoom: $("other-room"),
  roomName: $("room-name"),
  people: $("people"),
  peopleCount: $("people-count"),
  peopleList: $("people-list"),
  typing: $("typing"),
  status: $("status"),
  scroller: $("scroller"),
  messages: $("messages"),
  empty: $("empty"),
  older: $("older"),
  olderText: $("older-text"),
  loadOlder: $("load-older"),
  pill: $("pill"),
  composer: $("composer"),
  notice: $("notice"),
  name: $("name"),
  message: $("message"),
  send: $("send"),
  hint: $("hint"),
};

const { Presence, Socket } = await loadPhoenix();

// Where the server found no installed copy, it comes from a CDN, which may be out of reach.
async function loadPhoenix() {
  try {
    return await import("phoenix");
  } catch (error) {
    showStatus("not connected");
    say(
      "phoenix.js could not be loaded: check the network and reload this page. " +
        "A server whose users have no internet is built after “npm ci --prefix assets”.",
    );
    throw error;
  }
}

// ---- small helpers -------------------------------------------------------

// Storage may be switched off by the browser: the chat then works without memory.
function recall(storage, key) {
  try {
    return window[storage].getItem(`slackir.${key}`) ?? "";
  } catch {
    return "";
  }
}

function remember(storage, key, value) {
  try {
    window[storage].setItem(`slackir.${key}`, value);
  } catch {
    // nothing to do: see recall
  }
}

// Anybody may push any JSON into the room, also nested too deeply to be written again.
function asText(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "object") return String(value);
  try {
    return JSON.stringify(value);
  } catch {
    return "This cannot be shown.";
  }
}

// No script has letters with so many marks, and fonts take minutes for those that have more.
function tamed(text) {
  return text.replace(/(\p{M}{16})\p{M}+/gu, "$1");
}

// The beginning of a text, not cut in the middle of a character.
function beginning(text, length) {
  const cut = text.slice(0, length);
  return /[\uD800-\uDBFF]$/.test(cut) && cut.length < text.length ? cut.slice(0, -1) : cut;
}

function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}

function firstGrapheme(text) {
  const start = text.slice(0, 32);
  const [first] = Intl.Segmenter
    ? Array.from(new Intl.Segmenter().segment(start), (part) => part.segment)
    : start;
  return (first ?? "").toLocaleUpperCase();
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// ---- who and where -------------------------------------------------------

function roomFromAddress() {
  const asked = new URLSearchParams(location.search).get("room") ?? "";
  return asked.trim() || "lobby";
}

// crypto.randomUUID exists only on https and localhost; a chat in a LAN has neither.
function newClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function ownClientId() {
  const id = recall("localStorage", "client") || newClientId();
  remember("localStorage", "client", id);
  return id;
}

const room = roomFromAddress();
const clientId = ownClientId();
const draftKey = `draft.${room}`;

// History rows may come without the client id, so fingerprints of what was sent from
// here tell own messages apart after a reload.
const sentMarks = {
  all: recall("localStorage", "sent").split(",").filter(Boolean),
  mark: (entry) => hash(`${room}\n${entry.key}`).toString(36),
  add(entry) {
    this.all = [...this.all, this.mark(entry)].slice(-MAX_REMEMBERED);
    remember("localStorage", "sent", this.all.join(","));
  },
  has(entry) {
    return this.all.includes(this.mark(entry));
  },
};

// ---- messages ------------------------------------------------------------

// What the server has told us, oldest first.
let log = [];
// Whether there is more before it: "none" where nobody keeps messages, "all" where the page has all,
// "full" where it can keep no more.
let older = "none";
// What was typed here and has not come back from the server yet. `sent` means that it
// went out on the present connection.
let outbox = [];
let unseen = 0;
let stuck = true;

// One message that cannot be shown takes no other with it.
function newEntry(payload, options) {
  try {
    return entryOf(payload, options);
  } catch (error) {
    console.error("a message cannot be shown", error);
    return entryOf({ message: "This message cannot be shown.", _meta: payload?._meta }, options);
  }
}

function entryOf(payload, { at = null, pending = false } = {}) {
  const fields = payload !== null && typeof payload === "object" ? payload : { message: payload };
  const name = asText(fields.name).trim();
  const text = asText(fields.message);
  const entry = { name, text, key: JSON.stringify([name, text]), at: timeOf(fields) ?? at };
  // What the server knows the message by, and what we know our own by: a message that goes out
  // again under the same client_ref is neither stored nor shown twice.
  entry.id = idOf(fields);
  entry.clientRef = pending ? newClientId() : fields.client_ref;
  entry.own =
    pending || (fields.client === undefined ? sentMarks.has(entry) : fields.client === clientId);
  entry.node = messageNode(entry, pending);
  entry.sent = false;
  entry.attempts = 0;
  return entry;
}

function messageNode({ name, text, own, at }, pending) {
  const node = element("article", "message");
  node.classList.toggle("own", own);
  node.classList.toggle("pending", pending);
  node.style.setProperty("--hue", String((hash(name) % 24) * 15));

  const avatar = element("span", "avatar");
  avatar.dataset.initial = firstGrapheme(tamed(beginning(name, SHOWN_NAME))) || "?";
  avatar.setAttribute("aria-hidden", "true");

  const shownName = tamed(beginning(name, SHOWN_NAME)) || "Somebody";
  const author = element("span", "message-author", shownName);
  author.dir = "auto";
  const meta = element("p", "message-meta");
  meta.append(author);
  if (at !== null) meta.append(timeNode(at));

  const body = element("div", "message-text");
  body.dir = "auto";
  if (at !== null) body.title = calendar.format(at);
  if (text.trim()) appendText(body, text);
  else body.append(element("em", "nothing", "no text"));

  node.append(avatar, meta, body);
  if (pending) node.append(element("p", "message-note", "not sent yet"));
  return node;
}

function appendText(body, text) {
  const lines = text.split("\n", SHOWN_LINES + 1).slice(0, SHOWN_LINES).join("\n");
  const shown = beginning(lines, SHOWN_CHARACTERS);
  appendLinked(body, tamed(shown));
  if (shown.length === text.length) return;
  const label = `Show all ${text.length.toLocaleString()} characters`;
  const ellipsis = document.createTextNode("…");
  const button = element("button", "quiet", label);
  button.type = "button";
  button.addEventListener("click", () => {
    ellipsis.remove();
    button.remove();
    appendInPieces(body, text, shown.length);
  });
  body.append(ellipsis, button);
}

// Piece by piece, so that the page answers meanwhile.
function appendInPieces(body, text, start) {
  if (start >= text.length || !body.isConnected) return;
  const piece = beginning(text.slice(start), SHOWN_CHARACTERS);
  appendLinked(body, tamed(piece));
  setTimeout(() => appendInPieces(body, text, start + piece.length));
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const dayOfYear = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const DAY_MS = 24 * 3_600_000;

// When the server took the message.
function timeOf(fields) {
  const at = Date.parse(fields._meta?.at);
  return Number.isNaN(at) ? null : at;
}

function dayOf(at) {
  return new Date(at).setHours(0, 0, 0, 0);
}

function dayLabel(at) {
  const days = Math.round((dayOf(at) - dayOf(Date.now())) / DAY_MS);
  const label = days === 0 || days === -1 ? relative.format(days, "day") : dayOfYear.format(at);
  return label.slice(0, 1).toLocaleUpperCase() + label.slice(1);
}

function timeNode(at) {
  const node = element("time", "message-time", clock.format(at));
  node.dateTime = new Date(at).toISOString();
  node.title = calendar.format(at);
  return node;
}

// Splitting with a group keeps the addresses: every odd part is one.
function appendLinked(body, text) {
  const parts = text.split(/(https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?()[\]{}*_~])/i);
  parts.forEach((part, i) => body.append(i % 2 ? link(part) : part));
}

function link(address) {
  const node = element("a", "", address);
  node.href = address;
  node.target = "_blank";
  node.rel = "noopener noreferrer";
  return node;
}

function continues(entry, previous) {
  return (
    previous !== undefined &&
    previous.name === entry.name &&
    previous.own === entry.own &&
    (previous.at === null) === (entry.at === null) &&
    entry.at - previous.at < GROUP_GAP_MS &&
    !beginsDay(entry, previous)
  );
}

function beginsDay(entry, previous) {
  if (entry.at === null) return false;
  return previous === undefined || previous.at === null || dayOf(entry.at) !== dayOf(previous.at);
}

function dayNode(entry) {
  const label = dayLabel(entry.at);
  entry.day ??= element("p", "day", label);
  if (entry.day.textContent !== label) entry.day.textContent = label;
  return entry.day;
}

// The oldest leave where there are too many.
function keep(entries) {
  let characters = 0;
  let first = entries.length;
  while (first > 0 && entries.length - first < MAX_MESSAGES) {
    characters += entries[first - 1].text.length;
    if (characters > MAX_CHARACTERS && first < entries.length) break;
    first -= 1;
  }
  if (first > 0 && older !== "none") older = "full";
  return entries.slice(first);
}

// Nodes that are already in place are left alone: moving them would lose a text
// selection and make a screen reader read the whole room again.
function render() {
  const entries = [...log, ...outbox];
  const nodes = entries.flatMap((entry, i) => {
    entry.node.classList.toggle("continued", continues(entry, entries[i - 1]));
    return beginsDay(entry, entries[i - 1]) ? [dayNode(entry), entry.node] : [entry.node];
  });
  nodes.forEach((node, i) => {
    const there = ui.messages.children[i] ?? null;
    if (there !== node) ui.messages.insertBefore(node, there);
  });
  while (ui.messages.children.length > nodes.length) ui.messages.lastElementChild.remove();
  ui.empty.hidden = entries.length > 0 || ui.messages.ariaBusy === "true";
  showOlder();
}

// ---- older messages ------------------------------------------------------

const OLDER_LABELS = {
  all: `This is the beginning of #${room}.`,
  full: "This page keeps no more messages than these.",
  loading: "Loading older messages …",
};

function showOlder() {
  ui.older.hidden = older === "none" || log.length === 0;
  ui.loadOlder.hidden = older !== "some";
  ui.olderText.textContent = OLDER_LABELS[older] ?? "";
}

// Where messages have ids, somebody keeps them.
function expectOlder() {
  older = log.length > 0 && log[0].id !== null ? "some" : "none";
  showOlder();
}

// A reader who looks at the end has asked for nothing, unless the page has room.
function loadOlderNearTop() {
  if (older !== "some") return;
  const { scrollTop, scrollHeight, clientHeight } = ui.scroller;
  if (scrollHeight <= clientHeight || (!stuck && scrollTop < NEAR_TOP_PX)) loadOlder();
}

function loadOlder() {
  if (older !== "some" || !ready) return;
  older = "loading";
  showOlder();
  const asked = channel;
  const failed = () => {
    if (older === "loading") older = "failed";
    setTimeout(() => {
      if (older === "failed") older = "some";
      showOlder();
    }, REJOIN_AFTER_CLOSE_MS);
  };
  asked
    .push("messages_before", { before: log[0].id })
    .receive("ok", ({ messages }) => asked === channel && older === "loading" && showBefore(messages))
    .receive("error", failed)
    .receive("timeout", failed);
}

// What the reader looks at stays where it is, and a screen reader need not hear what is old.
function showBefore(messages) {
  const rows = Array.isArray(messages) ? messages : [];
  if (rows.length === 0) {
    older = "all";
    return showOlder();
  }
  older = "some";
  const anchor = log[0].node;
  const before = anchor.getBoundingClientRect().top;
  ui.messages.ariaLive = "off";
  const known = new Set(log.map(({ id }) => id));
  const fresh = rows.map((row) => newEntry(row)).filter(({ id }) => !known.has(id));
  log = keep([...fresh, ...log]);
  render();
  if (!stuck) ui.scroller.scrollTop += anchor.getBoundingClientRect().top - before;
  setTimeout(() => (ui.messages.ariaLive = null), 1_000);
  requestAnimationFrame(loadOlderNearTop);
}

function idOf(payload) {
  return payload?._meta?.id ?? null;
}

// `fresh` is what the server made of it.
function confirm(entry, fresh) {
  if (fresh.at !== null) {
    entry.at = fresh.at;
    entry.node.querySelector(".message-time")?.replaceWith(timeNode(fresh.at));
  }
  outbox = outbox.filter((other) => other !== entry);
  entry.node.classList.remove("pending");
  entry.node.querySelector(".message-note")?.remove();
  return entry;
}

function echoOf(fresh) {
  return outbox.find((entry) => entry.attempts > 0 && entry.clientRef === fresh.clientRef);
}

function showShout(payload) {
  const fresh = newEntry(payload, { at: Date.now() });
  const mine = fresh.own && echoOf(fresh);
  if (mine) mine.id = fresh.id;
  else fresh.node.classList.add("fresh");
  log = keep([...log, mine ? confirm(mine, fresh) : fresh]);
  if (log.length === 1) expectOlder();
  render();
  loadOlderNearTop();
  if (mine) flush();
  else if (!fresh.own) countUnseen(1);
}

// The history is the truth: it replaces what is shown. A row that was on the page
// already keeps its node, and with it its time; a row that equals something sent whose
// echo got lost with the connection settles that.
function showHistory(payload) {
  const rows = Array.isArray(payload?.messages) ? payload.messages : [];
  const first = ui.messages.ariaBusy === "true";
  const before = new Set([...log, ...outbox]);
  const shown = groupByKey(log);
  log = rows
    .map((row) => newEntry(row))
    .reverse()
    .map((row) => placed(shown.get(row.key)?.pop() ?? settled(row) ?? row, row))
    .reverse();
  expectOlder();
  render();
  if (!first) countUnseen(log.filter((entry) => !entry.own && !before.has(entry)).length);
}

// An id may have become another one: the server was killed and has begun anew.
function placed(entry, row) {
  entry.id = row.id;
  return entry;
}

function settled(row) {
  const entry = echoOf(row);
  return entry && confirm(entry, row);
}

function showUpdate({ id, payload }) {
  const old = log.find((entry) => entry.id === id);
  if (!old) return;
  // The members of an update are all its sender's own.
  const entry = { ...newEntry({ ...payload, _meta: undefined }, { at: old.at }), id };
  old.node.replaceWith(entry.node);
  log = log.map((other) => (other === old ? entry : other));
  render();
}

function showDeletion({ id }) {
  log = log.filter((entry) => entry.id !== id);
  render();
}

function groupByKey(entries) {
  const groups = new Map();
  for (const entry of entries) groups.set(entry.key, [...(groups.get(entry.key) ?? []), entry]);
  return groups;
}

// ---- rooms and people ----------------------------------------------------

function recentRooms() {
  const known = recall("localStorage", "rooms").split("\n").filter(Boolean);
  return [room, ...known.filter((name) => name !== room)].slice(0, MAX_ROOMS);
}

function roomAddress(name) {
  const asked = new URLSearchParams(location.search);
  asked.set("room", name);
  return `?${asked}`;
}

function showRooms() {
  const rooms = recentRooms();
  remember("localStorage", "rooms", rooms.join("\n"));
  const others = rooms.slice(1).map((name) => {
    const way = element("a", "", `#${name}`);
    way.href = roomAddress(name);
    way.dir = "auto";
    const item = element("li", "");
    item.append(way);
    return item;
  });
  ui.recent.replaceChildren(...others);
}

// Where the room tells who is here. Its key is a name, unless the meta has one.
let presence = null;

function nameOf(key, { metas }) {
  return tamed(beginning(asText(metas[0]?.name) || key, SHOWN_NAME));
}

function showPeople() {
  const me = ui.name.value.trim();
  const all = presence.list((key, who) => ({
    name: nameOf(key, who),
    typing: who.metas.some(({ typing }) => typing === true),
  }));
  all.sort((one, other) => one.name.localeCompare(other.name));
  const items = all.slice(0, MAX_LISTED).map(({ name, typing }) => {
    const item = element("li", typing ? "typing-now" : "", name === me ? `${name} (you)` : name);
    item.dir = "auto";
    return item;
  });
  ui.people.hidden = false;
  ui.peopleCount.textContent = `${all.length.toLocaleString()} here`;
  ui.peopleList.replaceChildren(...items);
  showTyping(all.filter(({ name, typing }) => typing && name !== me).map(({ name }) => name));
}

function showTyping(names) {
  const [first, second] = names;
  if (names.length === 0) ui.typing.textContent = "";
  else if (names.length === 1) ui.typing.textContent = `${first} is typing …`;
  else if (names.length === 2) ui.typing.textContent = `${first} and ${second} are typing …`;
  else ui.typing.textContent = `${names.length.toLocaleString()} people are typing …`;
}

// A room without this event refuses it, once.
let canType = true;
let typing = false;
let typingEnds = 0;

function tellTyping(on) {
  clearTimeout(typingEnds);
  if (on) typingEnds = setTimeout(() => tellTyping(false), TYPING_MS);
  if (typing === on || presence === null || !canType || !ready) return;
  typing = on;
  channel.push("typing", { on }).receive("error", ({ reason } = {}) => {
    if (reason !== "rate limited") canType = false;
  });
}

function watchRooms() {
  ui.otherRoom.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = ui.roomName.value.trim();
    if (name) location.search = roomAddress(name);
  });
  addEventListener("click", ({ target }) => {
    for (const menu of [ui.rooms, ui.people]) if (!menu.contains(target)) menu.open = false;
  });
  addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    const menu = [ui.rooms, ui.people].find(({ open }) => open);
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

// ---- scrolling -----------------------------------------------------------

function scrollToEnd(behavior = "instant") {
  ui.scroller.scrollTo({ top: ui.scroller.scrollHeight, behavior });
}

function nearBottom() {
  const { scrollHeight, scrollTop, clientHeight } = ui.scroller;
  return scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
}

// Only a scroll upwards lets go of the end. "Not at the end" alone would not do: a new
// message or the phone's keyboard moves the end away as well.
let lastTop = 0;
function followReader() {
  const { scrollTop } = ui.scroller;
  if (nearBottom()) stuck = true;
  else if (scrollTop < lastTop) stuck = false;
  lastTop = scrollTop;
  loadOlderNearTop();
  if (stuck) seeAll();
}

function countUnseen(count) {
  if (stuck && !document.hidden) return;
  unseen += count;
  showUnseen();
}

function seeAll() {
  if (unseen === 0 || document.hidden) return;
  unseen = 0;
  showUnseen();
}

function showUnseen() {
  const label = unseen === 1 ? "1 new message" : `${unseen} new messages`;
  ui.pill.hidden = unseen === 0 || stuck;
  ui.pill.textContent = label;
  document.title = `${unseen > 0 ? `(${unseen}) ` : ""}${room === "lobby" ? "" : `#${room} · `}Slackir`;
}

function watchScrolling() {
  ui.scroller.addEventListener("scroll", followReader, { passive: true });
  document.addEventListener("visibilitychange", () => stuck && seeAll());
  const keepEnd = new ResizeObserver(() => stuck && scrollToEnd());
  keepEnd.observe(ui.messages);
  keepEnd.observe(ui.scroller);
  ui.loadOlder.addEventListener("click", loadOlder);
  ui.pill.addEventListener("click", () => {
    scrollToEnd(matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");
    ui.message.focus();
  });
}

// ---- connection ----------------------------------------------------------

// An application that knows its users opens the page with their token.
const token = new URLSearchParams(location.search).get("token");
const socket = new Socket("/socket", { params: token ? { token } : {} });
let channel = null;
let ready = false;
let patience = 0;
// The last message that this page has seen: what came after it while we were away comes after the
// next join. A page that is loaded anew has seen nothing.
let lastSeen = null;

function showStatus(state) {
  if (ui.status.dataset.state === state) return;
  ui.status.dataset.state = state;
  ui.status.textContent = state;
}

function becomeReady() {
  if (ready) return;
  clearTimeout(patience);
  ready = true;
  ui.messages.ariaBusy = "false";
  render();
  if (older === "loading") older = "some";
  loadOlderNearTop();
  for (const entry of outbox) entry.sent = false;
  for (const entry of outbox.filter(({ attempts }) => attempts >= MAX_ATTEMPTS)) {
    takeBack(entry, "the connection broke each time it went out");
  }
  flush();
}

function loseConnection() {
  clearTimeout(patience);
  ready = false;
  if (ui.status.dataset.state === "connected") showStatus("reconnecting");
}

function joined(reply) {
  showStatus("connected");
  say("");
  typing = false;
  if (typeof reply?.name === "string") takeName(reply.name);
  // What we missed follows; what we sent and do not know the end of may go out again at once.
  if (reply?.recovered) return becomeReady();
  lastSeen = reply?.last_id ?? null;
  patience = setTimeout(becomeReady, HISTORY_PATIENCE_MS);
}

function seen(show) {
  return (payload) => {
    lastSeen = idOf(payload) ?? lastSeen;
    show(payload);
  };
}

function join() {
  // Rooms that know nobody's identity may take the name from here.
  const params = () => ({ meta: true, last_seen_id: lastSeen, name: ui.name.value.trim() || null });
  channel = socket.channel(`random:${room}`, params);
  const here = new Presence(channel);
  const current = channel;
  here.onSync(() => {
    if (current !== channel) return;
    presence = here;
    showPeople();
  });
  channel.on("shout", seen(showShout));
  channel.on("message_updated", seen(showUpdate));
  channel.on("message_deleted", seen(showDeletion));
  channel.on("messages_history", (payload) => {
    showHistory(payload);
    becomeReady();
  });
  channel.onError(loseConnection);
  // phoenix.js rejoins after errors, but takes a close by the server for the end.
  channel.onClose(() => {
    if (current !== channel) return;
    loseConnection();
    setTimeout(join, REJOIN_AFTER_CLOSE_MS);
  });
  channel
    .join()
    .receive("ok", joined)
    .receive("error", (answer) => say(`The room can’t be joined: ${reasonOf(answer)}.`));
}

// Who is here is known by name, so another name is another join. What came meanwhile follows it.
function joinAgain() {
  const old = channel;
  channel = null;
  loseConnection();
  old.leave();
  join();
}

// The server knows the name, and nobody may choose another one.
function takeName(name) {
  ui.name.value = name;
  ui.name.readOnly = true;
  showHints();
}

function connect() {
  socket.onClose(loseConnection);
  socket.connect();
  join();
}

// ---- sending -------------------------------------------------------------

// phoenix.js drops a push that waited ten seconds for its channel. So nothing is given
// to it before the room is joined and its history known, and a message counts as sent
// only once it came back. What went out on a connection that broke goes out again, but
// by itself: if a message is what the server breaks the connection for, it is found so.
function flush() {
  if (!ready || !socket.isConnected()) return;
  for (const entry of outbox.filter((waiting) => !waiting.sent)) {
    if (outbox.some(({ sent, attempts }) => sent && attempts > 1)) return;
    if (entry.attempts > 0 && outbox.some(({ sent }) => sent)) return;
    entry.sent = true;
    entry.attempts += 1;
    sentMarks.add(entry);
    channel
      .push("shout", {
        name: entry.name,
        message: entry.text,
        client: clientId,
        client_ref: entry.clientRef,
      })
      .receive("error", (answer) => {
        takeBack(entry, reasonOf(answer));
        flush();
      });
  }
}

const REASONS = {
  "invalid payload": "the room does not take such a message",
  "message too long": "it is too long",
  "rate limited": "that was too much at once",
  "storage unavailable": "the server cannot save messages at present",
  "too many connections": "the server is full",
  unauthorized: "you may not do that",
  unavailable: "the application behind the room does not answer",
  "unknown event": "nobody may write in this room",
  "unmatched topic": "there is no such room",
};

function reasonOf(answer) {
  const reason = asText(typeof answer === "string" ? answer : answer?.reason);
  const wait = Math.ceil(answer?.retry_after_ms / 1_000);
  const words = (REASONS[reason] ?? reason) || "the server gave no reason";
  if (!(wait > 0)) return words;
  return `${words}; try again in ${wait === 1 ? "a second" : `${wait} seconds`}`;
}

function takeBack(entry, reason) {
  if (!outbox.includes(entry)) return;
  outbox = outbox.filter((other) => other !== entry);
  render();
  const draft = ui.message.value;
  setDraft(draft ? `${entry.text}\n${draft}` : entry.text);
  say(`Not sent: ${reason}. Your text is back below.`);
  ui.message.focus();
}

function send() {
  const name = ui.name.value.trim();
  const message = ui.message.value.trimEnd().replace(/^\s*\n/, "");
  if (!name) return ui.name.focus();
  if (!message) return ui.message.focus();
  outbox = [...outbox, newEntry({ name, message }, { at: Date.now(), pending: true })];
  stuck = true;
  seeAll();
  render();
  scrollToEnd();
  setDraft("");
  say("");
  tellTyping(false);
  ui.message.focus();
  flush();
}

// ---- composer ------------------------------------------------------------

function say(text) {
  ui.notice.hidden = !text;
  ui.notice.textContent = text;
}

function setDraft(text) {
  ui.message.value = text;
  draftChanged();
}

function draftChanged() {
  remember("sessionStorage", draftKey, ui.message.value);
  fitHeight();
  showHints();
}

function fitHeight() {
  ui.message.style.height = "auto";
  ui.message.style.height = `${ui.message.scrollHeight}px`;
}

function showHints() {
  const named = ui.name.value.trim() !== "";
  ui.composer.classList.toggle("nameless", !named);
  ui.send.disabled = !named || ui.message.value.trim() === "";
  ui.hint.textContent = named
    ? "Enter sends, Shift+Enter starts a new line"
    : "Tell the others your name, then you can write";
}

// While an input method composes, Enter belongs to it (229: Safari's way to say so).
function isPlainEnter(event) {
  const composing = event.isComposing || event.keyCode === 229;
  return event.key === "Enter" && !event.shiftKey && !composing;
}

function watchComposer() {
  ui.composer.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  ui.message.addEventListener("keydown", (event) => {
    if (!isPlainEnter(event)) return;
    event.preventDefault();
    send();
  });
  ui.name.addEventListener("keydown", (event) => {
    if (!isPlainEnter(event)) return;
    event.preventDefault();
    ui.message.focus();
  });
  ui.name.addEventListener("input", () => {
    remember("localStorage", "name", ui.name.value.trim());
    showHints();
  });
  ui.name.addEventListener("change", () => presence && joinAgain());
  ui.message.addEventListener("input", () => {
    draftChanged();
    tellTyping(ui.message.value.trim() !== "");
  });
  addEventListener("resize", fitHeight);
  addEventListener("beforeunload", (event) => {
    if (outbox.length > 0) event.preventDefault();
  });
}

function prepareComposer() {
  ui.name.value = recall("localStorage", "name");
  ui.message.placeholder = `Message #${room}`;
  setDraft(recall("sessionStorage", draftKey));
  (ui.name.value ? ui.message : ui.name).focus();
}

ui.room.textContent = `#${room}`;
showRooms();
showUnseen();
watchRooms();
watchScrolling();
watchComposer();
prepareComposer();
connect();
