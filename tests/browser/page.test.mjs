// The chat page in a real browser against the real server.
//
//   cargo build && npm ci --prefix assets && npm ci --prefix tests/browser
//   npm test --prefix tests/browser
//
// SLACKIR_BIN: the server to run (target/debug/slackir), CHROMIUM: the browser
// (/usr/bin/chromium), SCREENSHOTS: a folder for pictures of the page (none).
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { BROWSER, PATIENCE_MS, ROOT, Server, eventually } from "./server.mjs";

const SCREENSHOTS = process.env.SCREENSHOTS;

let browser;

before(async () => {
  if (SCREENSHOTS) await mkdir(SCREENSHOTS, { recursive: true });
  browser = await chromium.launch(BROWSER);
});

after(() => browser?.close());

// ---- a person at the page ------------------------------------------------

// Each person has a browser context, and so a storage, of their own.
class Person {
  static async arrive(t, server, name, { search = "", prepare, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 900, height: 700 }, ...options });
    t.after(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const person = new Person(page);
    person.watchTrouble();
    await prepare?.(page);
    await page.goto(`${server.url}/${search}`);
    await person.status("connected");
    if (name) await page.fill("#name", name);
    return person;
  }

  constructor(page) {
    this.page = page;
    this.trouble = [];
  }

  watchTrouble() {
    this.page.on("pageerror", (error) => this.trouble.push(`error: ${error.message}`));
    this.page.on("dialog", (dialog) => {
      this.trouble.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    this.page.on("console", (message) => {
      // A server that is away shows as failed WebSockets, which is no fault of the page.
      const expected = /WebSocket connection|ERR_CONNECTION_REFUSED/.test(message.text());
      if (message.type() === "error" && !expected) this.trouble.push(message.text());
    });
  }

  async say(text) {
    await this.page.fill("#message", text);
    await this.page.press("#message", "Enter");
  }

  status(state) {
    return this.page.locator(`#status[data-state="${state}"]`, { hasText: RegExp(`^${state}$`) }).waitFor();
  }

  message(text) {
    return this.page.locator(".message", {
      has: this.page.locator(".message-text").getByText(text, { exact: true }),
    });
  }

  conversation() {
    return this.page.locator(".message").evaluateAll((nodes) =>
      nodes.map((node) => {
        const author = node.querySelector(".message-author").textContent;
        const own = node.classList.contains("own") ? "*" : "";
        const pending = node.classList.contains("pending") ? "…" : "";
        return `${author}${own}${pending}: ${node.querySelector(".message-text").textContent}`;
      }),
    );
  }

  sees(...lines) {
    return eventually(() => this.conversation(), lines);
  }

  noTrouble() {
    assert.deepEqual(this.trouble, []);
  }

  async picture(file) {
    if (!SCREENSHOTS) return;
    await this.page.screenshot({ path: path.join(SCREENSHOTS, `${file}.png`), animations: "disabled" });
  }
}

// ---- tests ---------------------------------------------------------------

test("two people see each other's messages, and each their own ones marked", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const bob = await Person.arrive(t, server, "Bob");

  await ada.say("Good morning, Bob");
  await bob.sees("Ada: Good morning, Bob");
  await bob.say("Morning! \u{1F44B} 早上好");
  await ada.sees("Ada*: Good morning, Bob", "Bob: Morning! \u{1F44B} 早上好");
  await bob.sees("Ada: Good morning, Bob", "Bob*: Morning! \u{1F44B} 早上好");
  assert.equal(await ada.page.inputValue("#message"), "");
  assert.equal(await ada.page.locator(".message.own").count(), 1);
  assert.equal(await ada.page.locator(".message time").count(), 2);

  const [own, other] = await ada.page
    .locator(".message-text")
    .evaluateAll((nodes) => nodes.map((node) => node.getBoundingClientRect().left));
  assert.ok(own > other, "own messages stand apart");
  await ada.picture("two-people");
  ada.noTrouble();
  bob.noTrouble();
});

test("an own message stays marked after a reload, and so does the name", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  await ada.say("remember me");
  await ada.sees("Ada*: remember me");
  await ada.page.reload();
  await ada.status("connected");
  assert.equal(await ada.page.inputValue("#name"), "Ada");
  await ada.sees("Ada*: remember me");
  await ada.page.locator("#message:focus").waitFor();
  ada.noTrouble();
});

test("after a restart of the server both come back by themselves", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const bob = await Person.arrive(t, server, "Bob");
  await ada.say("before");
  await bob.sees("Ada: before");

  await server.stop();
  await Promise.all([ada.status("reconnecting"), bob.status("reconnecting")]);
  await ada.say("written while away");
  await ada.sees("Ada*: before", "Ada*…: written while away");
  await ada.picture("reconnecting");

  await server.run();
  await Promise.all([ada.status("connected"), bob.status("connected")]);
  await ada.sees("Ada*: before", "Ada*: written while away");
  await bob.sees("Ada: before", "Ada: written while away");
  await bob.say("after");
  await ada.sees("Ada*: before", "Ada*: written while away", "Bob: after");
  await bob.sees("Ada: before", "Ada: written while away", "Bob*: after");
  ada.noTrouble();
  bob.noTrouble();
});

test("a message whose echo got lost with the connection is neither lost nor doubled", async (t) => {
  const server = await Server.start(t);
  const bob = await Person.arrive(t, server, "Bob");
  let cutAfter = null;
  const ada = await Person.arrive(t, server, "Ada", {
    prepare: (page) =>
      page.routeWebSocket(/\/socket\//, (ws) => {
        const upstream = ws.connectToServer();
        upstream.onMessage((text) => {
          if (cutAfter !== "arrival" || JSON.parse(text)[3] !== "shout") return ws.send(text);
          cutAfter = null;
          ws.close({ code: 3000 });
        });
        ws.onMessage((text) => {
          if (cutAfter !== "sending" || JSON.parse(text)[3] !== "shout") return upstream.send(text);
          cutAfter = null;
          ws.close({ code: 3000 });
        });
      }),
  });

  cutAfter = "arrival";
  await ada.say("the server has it");
  await ada.sees("Ada*: the server has it");
  cutAfter = "sending";
  await ada.say("the server never got it");
  await ada.sees("Ada*: the server has it", "Ada*: the server never got it");
  await bob.sees("Ada: the server has it", "Ada: the server never got it");
  ada.noTrouble();
});

// More messages than a history holds: only a resume can bring them all.
test("who was cut off gets what was missed, once and in order", async (t) => {
  const server = await Server.start(t);
  const bob = await Person.arrive(t, server, "Bob");
  let line = null;
  let down = false;
  const ada = await Person.arrive(t, server, "Ada", {
    prepare: (page) =>
      page.routeWebSocket(/\/socket\//, (ws) => {
        if (down) return ws.close({ code: 3000 });
        ws.connectToServer();
        line = ws;
      }),
  });
  await bob.say("before");
  await ada.sees("Bob: before");

  down = true;
  line.close({ code: 3000 });
  await ada.status("reconnecting");
  const missed = Array.from({ length: 60 }, (_, n) => `missed ${n}`);
  for (const text of missed) await bob.say(text);
  await ada.say("written while away");
  const bobs = ["before", ...missed].map((text) => `Bob: ${text}`);
  await bob.sees(...bobs.map((line) => line.replace("Bob", "Bob*")));

  down = false;
  await ada.sees(...bobs, "Ada*: written while away");
  await bob.say("after");
  await ada.sees(...bobs, "Ada*: written while away", "Bob: after");
  ada.noTrouble();
  bob.noTrouble();
});

test("a message that breaks every connection comes back, and the others go through", async (t) => {
  const server = await Server.start(t);
  let tries = 0;
  const ada = await Person.arrive(t, server, "Ada", {
    prepare: (page) =>
      page.routeWebSocket(/\/socket\//, (ws) => {
        const upstream = ws.connectToServer();
        ws.onMessage((text) => {
          if (!text.includes("far too large")) return upstream.send(text);
          tries += 1;
          ws.close({ code: 3000 });
        });
      }),
  });
  await ada.say("far too large");
  await ada.say("quite small");
  await ada.page.locator("#notice", { hasText: "the connection broke" }).waitFor();
  assert.equal(await ada.page.inputValue("#message"), "far too large");
  await ada.sees("Ada*: quite small");
  await ada.status("connected");
  assert.equal(tries, 3);
  ada.noTrouble();
});

test("who comes later reads the history", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const bob = await Person.arrive(t, server, "Bob");
  await ada.say("one");
  await bob.sees("Ada: one");
  await bob.say("two");
  await ada.sees("Ada*: one", "Bob: two");
  await ada.say("three");
  await bob.sees("Ada: one", "Bob*: two", "Ada: three");

  const cleo = await Person.arrive(t, server);
  await cleo.sees("Ada: one", "Bob: two", "Ada: three");
  cleo.noTrouble();
});

test("markup typed as a message stays text", async (t) => {
  const server = await Server.start(t);
  const nasty = "<script>alert(1)</script><img src=x onerror=alert(2)><b>bold</b>";
  const ada = await Person.arrive(t, server, "<i>Ada</i>");
  const bob = await Person.arrive(t, server, "Bob");
  await ada.say(nasty);
  await ada.sees(`<i>Ada</i>*: ${nasty}`);
  await bob.sees(`<i>Ada</i>: ${nasty}`);
  const cleo = await Person.arrive(t, server, "Cleo");
  await cleo.sees(`<i>Ada</i>: ${nasty}`);
  for (const person of [ada, bob, cleo]) {
    assert.equal(await person.page.locator("#messages :is(script, img, b, i)").count(), 0);
    person.noTrouble();
  }
});

test("Enter sends, Shift+Enter starts a line, and without a name nothing goes out", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server);
  await ada.page.locator("#name:focus").waitFor();
  await ada.page.locator("#empty:visible").waitFor();
  await ada.picture("empty");

  await ada.say("too early");
  await ada.page.locator("#name:focus").waitFor();
  assert.equal(await ada.page.inputValue("#message"), "too early");
  assert.equal(await ada.page.isDisabled("#send"), true);
  assert.deepEqual(await ada.conversation(), []);

  await ada.page.keyboard.type("Ada");
  await ada.page.keyboard.press("Enter");
  await ada.page.locator("#message:focus").waitFor();
  await ada.page.keyboard.press("Shift+Enter");
  await ada.page.keyboard.type("second line");
  await ada.page.keyboard.press("Enter");
  await ada.sees("Ada*: too early\nsecond line");
  await ada.page.locator("#empty").waitFor({ state: "hidden" });

  await ada.page.keyboard.type("by button");
  await ada.page.click("#send");
  await ada.sees("Ada*: too early\nsecond line", "Ada*: by button");
  ada.noTrouble();
});

test("the status tells of connecting first", async (t) => {
  const server = await Server.start(t);
  let admit;
  const admitted = new Promise((resolve) => (admit = resolve));
  const context = await browser.newContext();
  t.after(() => context.close());
  const ada = new Person(await context.newPage());
  await ada.page.routeWebSocket(/\/socket\//, async (ws) => {
    await admitted;
    ws.connectToServer();
  });
  await ada.page.goto(server.url);
  await ada.status("connecting");
  admit();
  await ada.status("connected");
});

test("a page that cannot load phoenix.js says so", async (t) => {
  const server = await Server.start(t);
  const context = await browser.newContext();
  t.after(() => context.close());
  const ada = new Person(await context.newPage());
  await ada.page.route("**/phoenix.mjs", (route) => route.abort());
  await ada.page.goto(server.url);
  await ada.status("not connected");
  assert.match(await ada.page.locator("#notice").innerText(), /phoenix\.js could not be loaded/);
});

test("a refused message comes back to the composer with the reason", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada", { prepare: refuseShouts("please slow down") });
  await ada.say("in a hurry");
  await ada.page.locator("#notice", { hasText: "please slow down" }).waitFor();
  assert.equal(await ada.page.inputValue("#message"), "in a hurry");
  assert.deepEqual(await ada.conversation(), []);
  await ada.picture("refused");
  ada.noTrouble();
});

function refuseShouts(reason) {
  return (page) =>
    page.routeWebSocket(/\/socket\//, (ws) => {
      const upstream = ws.connectToServer();
      ws.onMessage((text) => {
        const [joinRef, ref, topic, event] = JSON.parse(text);
        const reply = { status: "error", response: { reason } };
        if (event === "shout") ws.send(JSON.stringify([joinRef, ref, topic, "phx_reply", reply]));
        else upstream.send(text);
      });
    });
}

test("odd payloads of other clients do not break the page", async (t) => {
  const server = await Server.start(t);
  const odd = [{}, { name: 7, message: true }, { name: null, message: { a: [1] } }, { message: "" }];
  let push;
  const ada = await Person.arrive(t, server, "Ada", {
    prepare: (page) =>
      page.routeWebSocket(/\/socket\//, (ws) => {
        ws.connectToServer();
        push = (payload) => ws.send(JSON.stringify([null, null, "random:lobby", "shout", payload]));
      }),
  });
  for (const payload of odd) push(payload);
  await ada.sees("Somebody: no text", "7: true", 'Somebody: {"a":[1]}', "Somebody: no text");
  await ada.say("still here");
  await ada.message("still here").waitFor();
  ada.noTrouble();
});

test("a reader of older messages is not torn away from them", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const bob = await Person.arrive(t, server, "Bob", { viewport: { width: 700, height: 480 } });
  for (let i = 1; i <= 20; i++) await ada.say(`line ${i}`);
  await bob.message("line 20").waitFor();
  const distance = () =>
    bob.page.locator("#scroller").evaluate((s) => Math.round(s.scrollHeight - s.scrollTop - s.clientHeight));
  await eventually(distance, 0);

  // The page hears of it with the next frame.
  await bob.page.locator("#scroller").evaluate(
    (scroller) =>
      new Promise((heard) => {
        scroller.addEventListener("scroll", () => requestAnimationFrame(heard), { once: true });
        scroller.scrollTo({ top: 0 });
      }),
  );
  assert.ok((await distance()) > 100);
  await ada.say("line 21");
  await bob.page.getByRole("button", { name: "1 new message" }).waitFor();
  await bob.picture("new-messages");
  assert.equal(await bob.page.locator("#scroller").evaluate((scroller) => scroller.scrollTop), 0);

  await bob.page.click("#pill");
  await eventually(distance, 0);
  await bob.page.locator("#pill").waitFor({ state: "hidden" });
  await ada.say("line 22");
  await bob.message("line 22").waitFor();
  await eventually(distance, 0);
});

// What any client may send, past the composer; returns when all of it is stored.
function shout(person, payloads, room = "lobby") {
  return person.page.evaluate(
    ([payloads, topic]) =>
      new Promise((stored, failed) => {
        const ws = new WebSocket(`ws://${location.host}/socket/websocket?vsn=2.0.0`);
        let waiting = payloads.length;
        ws.onopen = () => {
          ws.send(JSON.stringify(["1", "1", topic, "phx_join", { ack: true, history: "none" }]));
          payloads.forEach((text, i) => ws.send(`["1","${i + 2}",${JSON.stringify(topic)},"shout",${text}]`));
        };
        ws.onmessage = ({ data }) => {
          const [, ref, , event, { status }] = JSON.parse(data);
          if (event !== "phx_reply" || ref === "1") return;
          if (status !== "ok") failed(new Error(data.slice(0, 200)));
          waiting -= 1;
          if (waiting > 0) return;
          ws.close();
          stored();
        };
        ws.onerror = () => failed(new Error("no connection"));
      }),
    [payloads, `random:${room}`],
  );
}

test("no stored message freezes a room or empties it for the others", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const marks = "\\u0301";
  const rooms = {
    links: "http://a ".repeat(64_000),
    marks: `a${marks.repeat(100_000)}`,
    manyMarks: `a${marks.repeat(300)} `.repeat(300),
    lines: `x${"\\n".repeat(50_000)}y`,
    word: "W".repeat(800_000),
  };
  for (const [room, text] of Object.entries(rooms)) {
    const before = '{"name":"Ada","message":"before"}';
    const odd = `{"name":"${"n".repeat(10_000)}","message":"${text}"}`;
    await shout(ada, [before, odd, '{"name":"Ada","message":"after"}'], room);
    const start = Date.now();
    const bob = await Person.arrive(t, server, "Bob", { search: `?room=${room}` });
    await bob.message("after").waitFor();
    await bob.message("before").waitFor();
    assert.equal(await bob.page.locator(".message").count(), 3, room);
    const took = Date.now() - start;
    assert.ok(took < 20_000, `${room} took ${took} ms`);
    const [length, height] = await bob.page
      .locator(".message-text")
      .nth(1)
      .evaluate((node) => [node.textContent.length, node.clientHeight]);
    assert.ok(length < 10_100, `${room} shows ${length} characters`);
    assert.ok(height < 15_000, `${room} is ${height} px high`);
    bob.noTrouble();
  }
});

test("all of a long message is a click away", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const text = "word ".repeat(9_000);
  await shout(ada, [JSON.stringify({ name: "Ada", message: text })]);
  const shown = () => ada.page.locator(".message-text").evaluate((node) => node.textContent.length);
  assert.ok((await shown()) < 10_100);
  await ada.picture("long");
  await ada.page.getByRole("button", { name: /^Show all 45.000 characters$/ }).click();
  await eventually(shown, text.length);
  ada.noTrouble();
});

test("older messages come when somebody scrolls up, and what is read stays in place", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const lines = Array.from({ length: 120 }, (_, n) => `line ${n + 1}`);
  await shout(ada, lines.map((message) => JSON.stringify({ name: "Ada", message })));
  const bob = await Person.arrive(t, server, "Bob");
  await bob.message("line 120").waitFor();
  assert.equal(await bob.page.locator(".message").count(), 50);

  const place = (text) =>
    bob.message(text).evaluate((node) => Math.round(node.getBoundingClientRect().top));
  const scroller = bob.page.locator("#scroller");
  // The row above the messages has a button, then words: each of its heights is kept.
  await bob.page.locator("#older").evaluate((row) => {
    window.heights = new Set();
    new ResizeObserver(() => window.heights.add(row.getBoundingClientRect().height)).observe(row);
  });
  await scroller.evaluate((node) => node.scrollTo({ top: 300 }));
  const before = await place("line 80");
  await bob.message("line 21").waitFor({ state: "attached" });
  assert.ok(Math.abs((await place("line 80")) - before) < 3, "nothing jumps");
  await eventually(() => bob.page.evaluate(() => [...window.heights].length), 1);

  await scroller.evaluate((node) => node.scrollTo({ top: 0 }));
  await bob.message("line 1").waitFor({ state: "attached" });
  await eventually(async () => (await bob.conversation()).length, 120);
  assert.deepEqual(await bob.conversation(), lines.map((line) => `Ada: ${line}`));
  await scroller.evaluate((node) => node.scrollTo({ top: 0 }));
  await bob.page.getByText("This is the beginning of #lobby.").waitFor();
  await bob.picture("beginning");
  bob.noTrouble();
});

test("messages carry the time at which the server took them", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  await ada.say("now");
  await ada.sees("Ada*: now");
  const times = (person) =>
    person.page.locator(".message time").evaluateAll((nodes) => nodes.map((node) => node.dateTime));
  const [live] = await times(ada);
  assert.ok(Math.abs(Date.parse(live) - Date.now()) < 60_000, live);
  const bob = await Person.arrive(t, server, "Bob");
  await bob.sees("Ada: now");
  assert.deepEqual(await times(bob), [live]);
  assert.deepEqual(await bob.page.locator(".day").allTextContents(), ["Today"]);
  bob.noTrouble();
});

test("the composer is a landmark", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada");
  const composer = ada.page.getByRole("form", { name: "Write a message" });
  await composer.getByRole("textbox", { name: "Message" }).waitFor();
  await ada.page.getByRole("main").getByRole("log", { name: "Messages" }).waitFor({ state: "attached" });
});

test("rooms are separate", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada", { search: "?room=tea" });
  const bob = await Person.arrive(t, server, "Bob");
  await ada.say("only for tea drinkers");
  await ada.sees("Ada*: only for tea drinkers");
  await bob.say("hello lobby");
  await bob.sees("Bob*: hello lobby");
  await ada.sees("Ada*: only for tea drinkers");
});

// docs/ROOMS.md has the second of these rooms.
const PEOPLE = `
[[rooms]]
topics = "random:quiet"
[rooms.on.call]
[rooms.presence]
key = "{params.name}"
[[rooms]]
topics = "random:*"
[rooms.presence]
key = "{params.name}"
[rooms.on.shout]
[rooms.on.typing]
require = { on = "bool" }
presence = { typing = "{payload.on}" }
`;

test("where the room tells, the page shows who is here and who is typing", async (t) => {
  const server = await Server.start(t, PEOPLE);
  const ada = await Person.arrive(t, server, "Ada");
  const bob = await Person.arrive(t, server);
  const here = (person) => person.page.locator("#people-list li").allTextContents();
  // A name is a name once its field is left.
  await ada.page.press("#name", "Enter");
  await eventually(() => here(bob), ["Ada"]);
  await bob.page.fill("#name", "Bob");
  await bob.page.press("#name", "Enter");
  await eventually(() => here(ada), ["Ada (you)", "Bob"]);
  assert.equal(await ada.page.textContent("#people-count"), "2 here");

  await bob.page.fill("#message", "I am about to say");
  await ada.page.locator("#typing", { hasText: "Bob is typing …" }).waitFor();
  await ada.page.click("#people-count");
  await ada.picture("people");
  await bob.page.press("#message", "Enter");
  await ada.sees("Bob: I am about to say");
  await eventually(() => ada.page.textContent("#typing"), "");
  assert.equal(await bob.page.textContent("#typing"), "", "nobody reads of their own typing");

  await bob.page.close();
  await eventually(() => here(ada), ["Ada (you)"]);
  ada.noTrouble();
  bob.noTrouble();
});

test("a room without typing is asked once, and a refusal is said in words", async (t) => {
  const server = await Server.start(t, PEOPLE);
  const ada = await Person.arrive(t, server, "Ada", { search: "?room=quiet" });
  await ada.page.locator("#people").waitFor();
  await ada.say("is anybody there?");
  await ada.page.locator("#notice", { hasText: "Not sent: nobody may write in this room." }).waitFor();
  assert.equal(await ada.page.textContent("#typing"), "");
  ada.noTrouble();
});

test("a name from the server stays, and the room says who may come in", async (t) => {
  const server = await Server.start(
    t,
    `
    [identity]
    fields = { name = "{connect.token}" }
    [[rooms]]
    topics = "random:*"
    [rooms.join]
    match = { "user.name" = ["ada", "bob"] }
    reply = { name = "{user.name}" }
    [rooms.on.shout]
    stamp = { name = "{user.name}" }
    `,
  );
  const ada = await Person.arrive(t, server, null, { search: "?token=ada" });
  await eventually(() => ada.page.inputValue("#name"), "ada");
  assert.equal(await ada.page.isEditable("#name"), false);
  await ada.say("I am ada");
  await ada.sees("ada*: I am ada");
  const context = await browser.newContext();
  t.after(() => context.close());
  const stranger = await context.newPage();
  await stranger.goto(`${server.url}/?token=eve`);
  const notice = stranger.locator("#notice");
  await notice.filter({ hasText: "The room can’t be joined: you may not do that." }).waitFor();
  ada.noTrouble();
});

test("a way leads back to the rooms where somebody was", async (t) => {
  const server = await Server.start(t);
  const ada = await Person.arrive(t, server, "Ada", { search: "?room=tea" });
  await ada.page.click("#rooms summary");
  await ada.page.fill("#room-name", "coffee & cake");
  await ada.page.press("#room-name", "Enter");
  await eventually(() => ada.page.textContent("#room"), "#coffee & cake");
  await ada.status("connected");
  await ada.page.click("#rooms summary");
  await ada.picture("rooms");
  await ada.page.press("#rooms", "Escape");
  assert.equal(await ada.page.locator("#rooms").getAttribute("open"), null);
  await ada.page.click("#rooms summary");
  await ada.page.click("#recent a");
  await eventually(() => ada.page.textContent("#room"), "#tea");
  await ada.status("connected");
  ada.noTrouble();
});

test("a narrow screen needs no sideways scrolling", async (t) => {
  const server = await Server.start(t);
  const narrow = { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true };
  const ada = await Person.arrive(t, server, "Ada");
  const bob = await Person.arrive(t, server, "Bob".repeat(13), narrow);
  await ada.say(`https://example.org/${"a-long-way-".repeat(20)}`);
  await ada.say("W".repeat(400));
  await ada.say("several\nlines\n\nwith a gap");
  await bob.message("W".repeat(400)).waitFor();
  await bob.say("M".repeat(200));
  await bob.message("M".repeat(200)).waitFor();
  await bob.picture("narrow");
  const wide = await bob.page.evaluate(() =>
    ["html", "body", "#scroller", "#messages", "#composer"].filter((selector) => {
      const { scrollWidth, clientWidth } = document.querySelector(selector);
      return scrollWidth > clientWidth;
    }),
  );
  assert.deepEqual(wide, []);
  const edges = await bob.page
    .locator(".message-text, .message-author, #composer, #status")
    .evaluateAll((nodes) => nodes.map((node) => node.getBoundingClientRect().right));
  assert.ok(Math.max(...edges) <= 320, `something ends at ${Math.max(...edges)}`);
  assert.equal(await bob.page.evaluate(() => document.scrollingElement.scrollWidth), 320);
});

test("light and dark follow the system", async (t) => {
  const server = await Server.start(t);
  const light = await Person.arrive(t, server, "Ada", { colorScheme: "light" });
  const dark = await Person.arrive(t, server, "Bob", { colorScheme: "dark" });
  const talk = [
    [light, "Did the ferry run this morning?"],
    [dark, "It did, ten minutes late as ever."],
    [dark, "The sea was like glass, you should have been there.\n\nTimes: https://example.org/ferry"],
    [light, "Then tomorrow \u{26F4}\u{FE0F}"],
    [light, "I bring the coffee."],
  ];
  for (const [person, text] of talk) {
    await person.say(text);
    const other = person === light ? dark : light;
    await other.page.locator(".message").filter({ hasText: text.split("\n")[0] }).waitFor();
  }
  const background = (person) =>
    person.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.notEqual(await background(light), await background(dark));
  await light.picture("light");
  await dark.picture("dark");
  light.noTrouble();
  dark.noTrouble();
});

test("the address for pages without the installed client pins the very same file", async () => {
  const map = JSON.parse(await readFile(path.join(ROOT, "assets/importmap.cdn.json"), "utf8"));
  const client = path.join(ROOT, "assets/node_modules/phoenix");
  const { version } = JSON.parse(await readFile(path.join(client, "package.json"), "utf8"));
  const bytes = await readFile(path.join(client, "priv/static/phoenix.mjs"));
  const address = map.imports.phoenix;
  assert.ok(address.endsWith(`/phoenix@${version}/priv/static/phoenix.mjs`), address);
  assert.equal(map.integrity[address], `sha384-${createHash("sha384").update(bytes).digest("base64")}`);
});
