// The operators' page: its connection to the server, its head, and which view is open.
import { Socket } from "./phoenix.mjs";
import { Charts } from "./charts.js";
import { $, h, say, write } from "./dom.js";
import { count, duration } from "./format.js";
import { people } from "./people.js";
import { room } from "./room.js";
import { rooms } from "./rooms.js";
import { Strip } from "./strip.js";
import { system } from "./system.js";
import { trouble } from "./trouble.js";

const REFRESH_MS = 2_000;
const PATIENCE_MS = 10_000;
const SILENT_MS = 5_000;
const SIGNED_OUT_CHECK_MS = 5_000;
const NARROW = matchMedia("(max-width: 719.9px)");

const socket = new Socket("/dashboard/socket");
const channel = socket.channel("admin:dashboard");
const strip = new Strip($("strip"));
const charts = new Charts($("charts"));

let joined = false;
let server = {};
let heard = 0;
let warnings = 0;
let view = { name: "", refresh: async () => {} };
let polling;

// ---- what the views use --------------------------------------------------

const app = {
  // Asks the server; the answer, or an error whose message is a sentence.
  ask(event, payload = {}, patience = PATIENCE_MS) {
    if (!joined) return Promise.reject(new Error("There is no connection to the server. Nothing was done."));
    return new Promise((answered, failed) => {
      channel
        .push(event, payload, patience)
        .receive("ok", answered)
        .receive("error", (reply) =>
          failed(new Error(reply?.reason ?? "The server refused, without a reason.")),
        )
        .receive("timeout", () =>
          failed(new Error(`The server did not answer within ${patience / 1_000} seconds.`)),
        );
    });
  },
  // Pushes of the server, until the returned function is called.
  on(event, listener) {
    const ref = channel.on(event, listener);
    return () => channel.off(event, ref);
  },
  refresh: () => poll(),
  go(hash) {
    location.hash = hash;
  },
};

// ---- connection ----------------------------------------------------------

channel.on("snapshot", (snapshot) => {
  heard = Date.now();
  showState(snapshot.state, snapshot.state_text);
  strip.show(snapshot);
  charts.add(snapshot);
  warnings = snapshot.warnings ?? 0;
  showTroubleCount();
  showAbout(snapshot.uptime);
});

channel
  .join()
  .receive("ok", (reply) => {
    joined = true;
    server = reply;
    heard = Date.now();
    strip.begin(reply.history);
    charts.begin(reply.history);
    showAbout((Date.now() - reply.started_at) / 1_000);
    showState("connecting");
    view.joined?.();
    poll();
  })
  .receive("error", (reply) => lost(reply?.reason));
channel.onError(() => lost());
channel.onClose(() => lost());
socket.onError(() => lost());
socket.onClose(() => lost());
socket.connect();

function lost(reason = "What you see is old.") {
  if (joined) view.lost?.();
  joined = false;
  clearTimeout(polling);
  showState("lost", reason);
}

// A connection may be dead for half a minute before the browser notices.
setInterval(() => {
  const silent = joined && Date.now() - heard > SILENT_MS;
  if (silent && !document.hidden) showState("silent", "What you see is old.");
}, 1_000);

// Without a session no connection comes: then the way leads to the login.
setInterval(async () => {
  if (joined || document.hidden) return;
  // Where the server closed the channel itself, phoenix.js does not join again.
  if (channel.state === "closed" && socket.isConnected()) location.reload();
  const page = await fetch("/dashboard/", { cache: "no-store" }).catch(() => null);
  if (page && (page.status === 401 || page.status === 403 || page.url.endsWith("/login"))) {
    location.assign("/dashboard/login");
  }
}, SIGNED_OUT_CHECK_MS);

// ---- head ----------------------------------------------------------------

const PILL = {
  connecting: "connecting",
  lost: "no connection, trying again",
  silent: "no news from the server",
};

function showState(state, explanation = "") {
  const words = PILL[state] ?? state;
  $("pill").dataset.state = state.replaceAll(" ", "-");
  write($("pill"), words);
  write($("state-text"), explanation ?? "");
  const old = state === "lost" || state === "silent";
  document.body.classList.toggle("old", old);
  document.body.classList.remove("connecting");
  document.title = `${state === "ready" ? "" : `${words} – `}${server.node ?? "Slackir"} – dashboard`;
}

function showAbout(uptime) {
  const parts = [server.node, server.version && `version ${server.version}`, `up ${duration(uptime)}`];
  write($("about"), parts.filter(Boolean).join(" · "));
}

// What came since the operator last looked at the list stands out.
function showTroubleCount() {
  const badge = $("trouble-count");
  if (view.name === "trouble" && !document.hidden) seen("trouble", warnings);
  // A server that started anew counts anew.
  if (warnings < seen("trouble")) seen("trouble", 0);
  badge.hidden = warnings === 0;
  badge.classList.toggle("fresh", warnings > seen("trouble"));
  write(badge, count(warnings));
}

// Numbers that stay with this tab. Storage may be switched off: then they are forgotten.
function seen(name, value) {
  try {
    if (value !== undefined) sessionStorage.setItem(`slackir.${name}`, value);
    return Number(sessionStorage.getItem(`slackir.${name}`) ?? 0);
  } catch {
    return 0;
  }
}

// ---- charts, open or closed ----------------------------------------------

function openCharts(open) {
  $("charts").hidden = !open;
  $("charts-toggle").setAttribute("aria-expanded", open);
  if (open) charts.draw();
}

$("charts-toggle").addEventListener("click", () => openCharts($("charts").hidden));
NARROW.addEventListener("change", () => openCharts(!NARROW.matches));
openCharts(!NARROW.matches);

// ---- views ---------------------------------------------------------------

const VIEWS = { rooms, people, trouble, system };

function route() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let parts;
  try {
    parts = rest.map(decodeURIComponent);
  } catch {
    parts = rest;
  }
  const known = VIEWS[name] ? name : "rooms";
  const open = known === "rooms" && parts[0] ? room : VIEWS[known];
  view.leave?.();
  view = { ...open(app, parts), name: known };
  view.problem = h("p", { class: "notice", role: "alert", hidden: true });
  $("view").replaceChildren(view.problem, view.node);
  for (const link of document.querySelectorAll("#tabs a")) {
    const here = link.hash === `#/${known}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showTroubleCount();
  poll();
}

// Asks for what the view shows, and again while somebody can see it.
async function poll() {
  clearTimeout(polling);
  const current = view;
  if (!joined || document.hidden) return;
  try {
    await current.refresh();
    current.problem.hidden = true;
  } catch (error) {
    current.problem.hidden = false;
    write(current.problem, error.message);
  }
  if (current !== view || !joined) return;
  clearTimeout(polling);
  polling = setTimeout(poll, view.every ?? REFRESH_MS);
}

addEventListener("hashchange", () => {
  route();
  $("view").querySelector("h2")?.focus({ preventScroll: true });
  const tabs = $("tabs").getBoundingClientRect();
  if (tabs.top < 0) $("view").scrollIntoView({ block: "start" });
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(polling);
  else poll();
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("view").focus();
});
addEventListener("unhandledrejection", (event) => say(String(event.reason?.message ?? event.reason), true));
route();
