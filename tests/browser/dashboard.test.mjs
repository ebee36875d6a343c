// The operators' dashboard in a real browser against the real server.
//
//   cargo build && npm ci --prefix assets && npm ci --prefix tests/browser
//   node --test tests/browser/dashboard.test.mjs
//
// SLACKIR_BIN, CHROMIUM, SCREENSHOTS: as in page.test.mjs. DASHBOARD_URL: a server that runs
// already and has the settings below, in place of one for each test.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Client, NARROW, Operator, PASSWORD, WIDE, isAccessible, smallTargets } from "./operator.mjs";
import { BROWSER, Server, eventually } from "./server.mjs";

const CONFIG = `
[identity]
fields = { id = "{connect.token}" }
[[rooms]]
topics = "random:*"
[rooms.presence]
key = "{user.id}"
[rooms.on.shout]
`;
const VIEWS = ["#/rooms", "#/people", "#/trouble", "#/system"];
const { DASHBOARD_URL, SCREENSHOTS } = process.env;

let browser;

before(async () => {
  if (SCREENSHOTS) await mkdir(SCREENSHOTS, { recursive: true });
  browser = await chromium.launch(BROWSER);
});

after(() => browser?.close());

async function start(t) {
  const server = DASHBOARD_URL
    ? { url: DASHBOARD_URL }
    : await Server.start(t, CONFIG, "--dashboard-password", PASSWORD);
  return Object.assign(server, { browser });
}

// Tests may share a server: each has people and rooms of its own.
const own = (name) => `${name}-${Math.random().toString(36).slice(2, 8)}`;

// ---- tests ---------------------------------------------------------------

test("the password opens the dashboard, and nothing else does", async (t) => {
  const server = await start(t);
  const operator = await Operator.come(t, server);
  const { page } = operator;
  await page.goto(`${server.url}/dashboard`);
  await page.getByLabel("Password").waitFor();
  assert.equal(await page.locator("#wrong").isVisible(), false);

  await operator.signIn("wrong");
  await page.getByRole("alert").getByText("That is not the password.").waitFor();
  await operator.picture("wrong-password");
  await operator.signIn(PASSWORD);
  await operator.state("ready");
  await operator.noTrouble();

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Password").waitFor();
  await page.goto(`${server.url}/dashboard/`);
  await page.getByLabel("Password").waitFor();
  await operator.noTrouble();
});

test("the strip and the charts move by themselves", async (t) => {
  const server = await start(t);
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  const line = () => page.locator("#strip .spark polyline").first().getAttribute("points");
  const first = await line();
  await eventually(line, (points) => points !== first);
  assert.match(await page.locator("#strip").textContent(), /Connections[\d,]+of [\d,]+/);
  assert.match(await page.locator("#about").textContent(), /version \d+\.\d+\.\d+ · up /);
  await eventually(() => page.locator("#charts canvas").count(), 2);
  const charts = page.getByRole("img", { name: /Now: deliveries\/s \S+, messages\/s \S+$/ });
  await charts.waitFor();
  await page.getByRole("button", { name: "Charts" }).click();
  await charts.waitFor({ state: "hidden" });
  await operator.noTrouble();
});

test("the list of rooms finds a room that somebody has joined", async (t) => {
  const server = await start(t);
  const [user, topic] = [own("ada"), `random:${own("tea")}`];
  const client = await Client.join(t, server, user, topic);
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  await page.getByLabel("Topic begins with").fill(topic.slice(0, -2));
  await operator.row("Rooms", topic).waitFor();
  await eventually(() => page.locator("tbody tr").count(), 1);
  const cells = await operator.row("Rooms", topic).getByRole("cell").allTextContents();
  assert.deepEqual([cells[0], cells[1], cells[4], cells[5]], [topic, "1", "–", "saved, relaxed"]);
  await client.say("hello");
  await eventually(
    () => operator.row("Rooms", topic).getByRole("cell").nth(4).textContent(),
    (text) => /^\d+ s ago$/.test(text),
  );

  await page.getByLabel("Topic begins with").fill(own("nowhere"));
  await page.getByText("No open room begins with").waitFor();
  await page.getByLabel("Topic begins with").fill("");
  await page.getByRole("columnheader", { name: "Messages", exact: true }).getByRole("button").click();
  await page.locator('th[aria-sort="descending"]', { hasText: "Messages" }).waitFor();
  assert.equal(await page.getByLabel("Sorted by").inputValue(), "messages");
  await operator.picture("rooms");
  await operator.noTrouble();
});

test("a room shows members, presence and messages, and a message can be deleted", async (t) => {
  const server = await start(t);
  const [user, topic, text] = [own("ada"), `random:${own("tea")}`, own("hello")];
  const client = await Client.join(t, server, user, topic);
  await client.say(text);
  await client.say(`${text} again`);
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  await operator.openRoom(topic);
  await operator.row("Members", user).waitFor();
  // A shared server may have presences of its own.
  if (!DASHBOARD_URL) await operator.panel("Presence").getByText(user).waitFor();
  const messages = operator.panel("Last messages").locator(".line");
  await eventually(() => messages.count(), 2);
  const link = page.getByRole("link", { name: "Export all" });
  assert.equal(await link.getAttribute("href"), `/dashboard/export?topic=${encodeURIComponent(topic)}`);
  await operator.picture("room");

  const first = messages.filter({ hasNotText: "again" });
  await first.getByRole("button", { name: /^Delete/ }).click();
  await operator.confirm("Cancel");
  assert.equal(await messages.count(), 2);
  await first.getByRole("button", { name: /^Delete/ }).click();
  await operator.picture("delete");
  await operator.confirm("Delete");
  await operator.says("The message is deleted.");
  await eventually(() => messages.count(), 1);
  await page.reload();
  await eventually(
    () => messages.allTextContents(),
    ([line]) => line?.includes(`${text} again`),
  );
  assert.equal(await messages.count(), 1);
  const exported = await page.evaluate(
    (href) => fetch(href).then((answer) => answer.text()),
    await link.getAttribute("href"),
  );
  const bodies = exported
    .trim()
    .split("\n")
    .map((line) => JSON.stringify(JSON.parse(line)));
  assert.equal(bodies.length, 1);
  assert.ok(bodies[0].includes(`${text} again`), bodies[0]);
  await operator.noTrouble();
});

test("the live view shows what is said from now on, until it is stopped", async (t) => {
  const server = await start(t);
  const [topic, text] = [`random:${own("tea")}`, own("live")];
  const client = await Client.join(t, server, own("ada"), topic);
  const operator = await Operator.signedIn(t, server);
  await operator.openRoom(topic);
  const live = operator.panel("Live");
  await live.getByRole("button", { name: "Start the live view" }).click();
  await live.getByText(/^live until \d\d:\d\d:\d\d$/).waitFor();
  await client.say(text);
  await live.locator(".line", { hasText: text }).waitFor();
  await operator.picture("live");

  await live.getByRole("button", { name: "Stop the live view" }).click();
  await live.getByText("Stopped.").waitFor();
  await client.say(`${text} unseen`);
  await operator.panel("Last messages").getByText(`${text} unseen`).waitFor();
  assert.equal(await live.locator(".line").count(), 1);
  await operator.noTrouble();
});

test("an operator publishes a message, and is told of JSON that is none", async (t) => {
  const server = await start(t);
  const [topic, text] = [`random:${own("tea")}`, own("news")];
  const client = await Client.join(t, server, own("ada"), topic);
  const operator = await Operator.signedIn(t, server);
  await operator.openRoom(topic);
  const form = operator.panel("Publish a test message");
  const send = form.getByRole("button", { name: "Publish to all members" });
  await form.getByLabel("Payload (JSON)").fill("{no json");
  await send.click();
  assert.match(
    await form.getByLabel("Payload (JSON)").evaluate((field) => field.validationMessage),
    /^This is no JSON/,
  );
  await form.getByLabel("Payload (JSON)").fill(JSON.stringify({ name: "operator", message: text }));
  await send.click();
  await operator.says("The message is published.");
  await eventually(() => client.got(), [text]);
  await operator.noTrouble();
});

test("a user is found and disconnected", async (t) => {
  const server = await start(t);
  const [user, topic] = [own("ada"), `random:${own("tea")}`];
  const client = await Client.join(t, server, user, topic);
  const bystander = await Client.join(t, server, own("bob"), topic);
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  await operator.open("#/people");
  await page.getByLabel("Exactly").fill(user);
  await page.getByRole("button", { name: "Find" }).click();
  await operator.row("Connections", user).getByRole("link", { name: topic }).waitFor();
  await eventually(() => page.getByRole("table", { name: "Connections" }).locator("tbody tr").count(), 1);
  await page.getByRole("button", { name: `Disconnect ${user}` }).waitFor();
  await operator.picture("person");
  await page.getByRole("button", { name: "Disconnect all…" }).click();
  await operator.confirm("Disconnect");
  await operator.says("1 connection ended.");
  await eventually(
    () => client.closes(),
    (closes) => closes > 0,
  );
  assert.equal(await bystander.closes(), 0);
  await operator.noTrouble();
});

test("a ban keeps a user out until it is lifted", async (t) => {
  const server = await start(t);
  const [user, topic] = [own("eve"), `random:${own("tea")}`];
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  await operator.open(`#/people/user/${user}`);
  await page.locator(".subject").getByRole("button", { name: "Ban or mute…" }).click();
  const dialog = page.getByRole("dialog", { name: "Ban or mute" });
  assert.equal(await dialog.getByLabel("Who exactly").inputValue(), user);
  assert.deepEqual(await dialog.getByLabel("For how long").locator("option").allTextContents(), [
    "10 minutes",
    "1 hour",
    "1 day",
    "1 week",
    "For ever",
  ]);
  await dialog.getByLabel("For how long").selectOption("1 hour");
  await operator.confirm("Ban");
  await operator.says("The ban is on.");
  const ban = operator.row("Bans and mutes", user);
  await ban.getByText(/^in (59 min|1 h)/).waitFor();
  const banned = await Client.connect(t, server, user);
  assert.equal(await banned.join(topic), "refused");
  await operator.picture("ban");

  await ban.getByRole("button", { name: `Lift the ban of ${user}` }).click();
  await operator.confirm("Lift");
  await operator.says("The ban is lifted.");
  await ban.waitFor({ state: "detached" });
  await Client.join(t, server, user, topic);
  await operator.noTrouble();
});

test("a room is slowed down, and a person sees it in the numbers, until it is taken away", async (t) => {
  const server = await start(t);
  const [user, topic] = [own("ada"), `random:${own("tea")}`];
  const client = await Client.join(t, server, user, topic);
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  await operator.openRoom(topic);
  const slow = operator.panel("Slow mode");
  await slow.getByText(/^Off:/).waitFor();
  await slow.getByRole("button", { name: "Slow down…" }).click();
  const dialog = page.getByRole("dialog", { name: "Slow this room down" });
  await dialog.getByLabel("One message of a person in").selectOption("1 hour");
  await dialog.getByLabel("For how long").selectOption("10 minutes");
  await operator.picture("slow-dialog");
  await operator.confirm("Slow down");
  await operator.says("The room is in slow mode.");
  await slow.getByText(/one message in 1 hour\. It ends in (9|10) min/).waitFor();
  await client.say("first");
  await eventually(() => client.got(), ["first"]);
  await client.say("too early");
  await operator.picture("slow");

  await operator.open(`#/people/user/${user}`);
  const sum = page.locator(".subject-sum");
  await eventually(
    () => sum.textContent(),
    (text) => /received \d+ B · sent [\d.]+ k?B · 1 message over a limit$/.test(text),
  );
  const cells = await operator.row("Connections", user).getByRole("cell").allTextContents();
  assert.equal(cells.at(-2), "1");
  await operator.picture("slow-person");

  await operator.openRoom(topic);
  await slow.getByRole("button", { name: "Change…" }).click();
  await dialog.getByLabel("For how long").selectOption("Until it is taken away");
  await operator.confirm("Slow down");
  await slow.getByText(/until it is taken away/).waitFor();
  await slow.getByRole("button", { name: "Take away" }).click();
  await operator.confirm("Take away");
  await operator.says("The slow mode is over.");
  await slow.getByText(/^Off:/).waitFor();
  await client.say("second");
  await client.say("third");
  await eventually(() => client.got(), ["first", "second", "third"]);
  await operator.noTrouble();
});

test("trouble and system say how the server is, and a check runs", async (t) => {
  const server = await start(t);
  const operator = await Operator.signedIn(t, server);
  const { page } = operator;
  await operator.open("#/trouble");
  await operator.panel("Since the start").getByText("Slow consumers").waitFor();
  await page.getByText(/entr(y|ies), newest first$/).waitFor();
  await operator.picture("trouble");

  await operator.open("#/system");
  await page.getByRole("cell", { name: "dashboard_password", exact: true }).waitFor();
  await page.getByLabel("Name contains").fill("password");
  await eventually(
    () => page.getByRole("table", { name: "Settings" }).locator("tbody tr").count(),
    (rows) => rows > 0 && rows < 10,
  );
  const database = operator.panel("State").locator("div", { hasText: "Database" }).first();
  await eventually(
    () => database.textContent(),
    (text) => /sqlite|postgres/.test(text),
  );
  const migrations = operator.panel("State").locator("div", { hasText: "Migrations" }).last();
  await eventually(() => migrations.textContent(), "Migrationsall run");
  await page.getByRole("button", { name: "Check now" }).click();
  await operator.panel("Check").locator(".check li", { hasText: "database" }).first().waitFor();
  assert.ok(!(await page.locator("body").textContent()).includes(PASSWORD), "the password is redacted");
  await operator.picture("system");
  await operator.noTrouble();
});

test("when the connection drops the page says so, and comes back", async (t) => {
  const server = await start(t);
  const operator = await Operator.come(t, server);
  const { page } = operator;
  let away = false;
  let cut = () => {};
  await page.routeWebSocket(/\/dashboard\/socket\//, (ws) => {
    if (away) return ws.close();
    ws.connectToServer();
    cut = () => ws.close();
  });
  await page.goto(`${server.url}/dashboard`);
  await operator.signIn(PASSWORD);
  await operator.state("ready");
  assert.equal(await page.locator("body").getAttribute("class"), "");
  away = true;
  cut();
  await page.locator("#pill", { hasText: /^no connection, trying again$/ }).waitFor();
  assert.equal(await page.locator("body").getAttribute("class"), "old");
  await operator.picture("lost");
  away = false;
  await operator.state("ready");
  assert.equal(await page.locator("body").getAttribute("class"), "");
  await operator.noTrouble();
});

test("a tab that nobody sees asks nothing", async (t) => {
  const server = await start(t);
  const operator = await Operator.come(t, server);
  const { page } = operator;
  const frames = { asked: 0, snapshots: 0 };
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => (frames.asked += String(payload).includes("heartbeat") ? 0 : 1));
    socket.on(
      "framereceived",
      ({ payload }) => (frames.snapshots += String(payload).includes('"snapshot"') ? 1 : 0),
    );
  });
  await page.addInitScript(() =>
    Object.defineProperty(document, "hidden", { get: () => window.away ?? false }),
  );
  await page.goto(`${server.url}/dashboard`);
  await operator.signIn(PASSWORD);
  await operator.state("ready");
  const show = (away) =>
    page.evaluate((away) => {
      window.away = away;
      document.dispatchEvent(new Event("visibilitychange"));
    }, away);
  await show(true);
  const before = { ...frames };
  await eventually(
    () => frames.snapshots,
    (snapshots) => snapshots >= before.snapshots + 4,
  );
  assert.equal(frames.asked, before.asked);
  await show(false);
  await eventually(
    () => frames.asked,
    (asked) => asked > before.asked,
  );
  await operator.noTrouble();
});

test("a topic of markup is text everywhere", async (t) => {
  const server = await start(t);
  const [user, tag] = [own("<b>mallory</b>"), own("x")];
  const topic = `random:<img src=${tag} onerror=window.pwned=1>`;
  const client = await Client.join(t, server, user, topic);
  await client.say("<img src=x onerror=window.pwned=1>");
  const operator = await Operator.signedIn(t, server, NARROW);
  const { page } = operator;
  await page.getByLabel("Topic begins with").fill(`random:<img src=${tag}`);
  await page.getByRole("link", { name: topic }).click();
  await page.getByRole("heading", { name: topic, level: 2 }).waitFor();
  await operator.panel("Last messages").getByText("<img src=x onerror=window.pwned=1>").waitFor();
  await operator.row("Members", user).waitFor();
  await operator.row("Members", user).getByRole("link", { name: user }).click();
  await operator.row("Connections", user).getByRole("link", { name: topic }).waitFor();
  assert.equal(await page.locator("main img, main b").count(), 0);
  await operator.noTrouble();
});

test("nothing scrolls sideways, and axe finds nothing, wide and narrow, light and dark", async (t) => {
  const server = await start(t);
  const topic = `random:${"a-very-long-topic-".repeat(8)}${own("")}`;
  const client = await Client.join(t, server, own("ada"), topic);
  await client.say("W".repeat(300));
  const { page } = await Operator.signedIn(t, server);
  const storageState = await page.context().storageState();
  for (const size of [NARROW, WIDE]) {
    for (const colorScheme of ["light", "dark"]) {
      const operator = await Operator.come(t, server, { ...size, colorScheme, storageState });
      const { width } = size.viewport;
      await operator.page.goto(`${server.url}/dashboard/`);
      await operator.state("ready");
      for (const hash of [...VIEWS, `#/rooms/${encodeURIComponent(topic)}`]) {
        const name = `${hash.split("/").slice(1, 3).join("-").slice(0, 20)} at ${width} in ${colorScheme}`;
        await operator.open(hash);
        await operator.page.locator("#view :is(tbody tr, .line, .empty:not([hidden]))").first().waitFor();
        await isAccessible(operator.page, name);
        assert.equal(await operator.page.evaluate(() => document.scrollingElement.scrollWidth), width, name);
        await operator.picture(name.replaceAll(/\W+/g, "-"));
      }
      if (width === 390) assert.deepEqual(await smallTargets(operator.page), []);
      await operator.noTrouble();
    }
  }
  await page.context().clearCookies();
  await page.goto(`${server.url}/dashboard/login`);
  await isAccessible(page, "login");
});
