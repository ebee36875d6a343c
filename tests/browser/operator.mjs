// Who takes part in the tests of the dashboard: an operator at it, a client in a room.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { PATIENCE_MS, ROOT } from "./server.mjs";

export const PASSWORD = "correct horse battery";
export const NARROW = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
export const WIDE = { viewport: { width: 1_280, height: 860 } };
const SCREENSHOTS = process.env.SCREENSHOTS;
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHOENIX = await readFile(path.join(ROOT, "assets/node_modules/phoenix/priv/static/phoenix.js"), "utf8");

// Somebody at the dashboard.
export class Operator {
  static async come(t, server, options = WIDE) {
    const context = await server.browser.newContext(options);
    t.after(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const operator = new Operator(page, server);
    operator.watch();
    // Breaches of the policy are events of the page, and of it alone.
    await page.addInitScript(() => {
      window.breaches = [];
      addEventListener("securitypolicyviolation", (breach) => window.breaches.push(breach.violatedDirective));
    });
    return operator;
  }

  static async signedIn(t, server, options) {
    const operator = await Operator.come(t, server, options);
    await operator.page.goto(`${server.url}/dashboard`);
    await operator.signIn(PASSWORD);
    await operator.state("ready");
    return operator;
  }

  constructor(page, server) {
    this.page = page;
    this.server = server;
    this.trouble = [];
  }

  watch() {
    this.page.on("pageerror", (error) => this.trouble.push(`error: ${error.message}`));
    this.page.on("dialog", (dialog) => {
      this.trouble.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    this.page.on("console", (message) => {
      // A wrong password is a 401, and a socket that was cut shows as a failed one.
      const expected = /status of 401|status of 429|WebSocket connection/.test(message.text());
      if (message.type() === "error" && !expected) this.trouble.push(message.text());
    });
  }

  async signIn(password) {
    await this.page.getByLabel("Password").fill(password);
    await this.page.getByRole("button", { name: "Sign in" }).click();
  }

  state(state) {
    return this.page.locator(`#pill[data-state="${state}"]`).waitFor();
  }

  async open(hash) {
    await this.page.evaluate((hash) => (location.hash = hash), hash);
  }

  async openRoom(topic) {
    await this.open(`#/rooms/${encodeURIComponent(topic)}`);
    await this.page.getByRole("heading", { name: topic, level: 2 }).waitFor();
  }

  panel(name) {
    return this.page.getByRole("region", { name });
  }

  row(table, text) {
    return this.page.getByRole("table", { name: table }).getByRole("row").filter({ hasText: text });
  }

  async confirm(button) {
    await this.page.getByRole("dialog").getByRole("button", { name: button, exact: true }).click();
  }

  says(text) {
    return this.page.locator("#toasts").getByText(text).first().waitFor();
  }

  async noTrouble() {
    assert.deepEqual(this.trouble, []);
    assert.deepEqual(await this.page.evaluate(() => window.breaches), []);
    assert.equal(await this.page.evaluate(() => window.pwned), undefined);
  }

  async picture(file) {
    if (!SCREENSHOTS) return;
    await this.page.screenshot({
      path: path.join(SCREENSHOTS, `dashboard-${file}.png`),
      animations: "disabled",
    });
  }
}

// Somebody in a room, with phoenix.js as published.
export class Client {
  static async connect(t, server, user) {
    const context = await server.browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(`${server.url}/dashboard/login`);
    await page.evaluate(`${PHOENIX}; window.Phoenix = Phoenix;`);
    await page.evaluate((token) => {
      window.closes = 0;
      window.got = [];
      window.socket = new window.Phoenix.Socket("/socket", { params: { token } });
      window.socket.onClose(() => (window.closes += 1));
      window.socket.connect();
    }, user);
    return new Client(page);
  }

  static async join(t, server, user, topic) {
    const client = await Client.connect(t, server, user);
    assert.equal(await client.join(topic), "joined");
    return client;
  }

  constructor(page) {
    this.page = page;
  }

  // "joined", or "refused" at the connection or at the room.
  join(topic) {
    return this.page.evaluate(
      (topic) =>
        new Promise((decided) => {
          window.socket.onError(() => decided("refused"));
          window.socket.onClose(() => decided("refused"));
          window.room = window.socket.channel(topic);
          window.room.onMessage = (event, payload) => {
            if (event === "shout") window.got.push(payload.message);
            return payload;
          };
          window.room
            .join()
            .receive("ok", () => decided("joined"))
            .receive("error", () => decided("refused"));
        }),
      topic,
    );
  }

  say(message) {
    return this.page.evaluate(
      (message) => void window.room.push("shout", { name: "client", message }),
      message,
    );
  }

  got() {
    return this.page.evaluate(() => window.got);
  }

  closes() {
    return this.page.evaluate(() => window.closes);
  }
}

// ---- what is true of every view --------------------------------------------

export async function isAccessible(page, name) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document);
    return violations.map(
      ({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.target.join(" "))}`,
    );
  });
  assert.deepEqual(found, [], name);
}

export function smallTargets(page) {
  return page
    .locator("a, button, input, select, textarea")
    .evaluateAll((nodes) =>
      nodes
        .filter(
          (node) =>
            node.id !== "skip" && node.checkVisibility() && node.getBoundingClientRect().height < 43.5,
        )
        .map((node) => node.outerHTML.slice(0, 120)),
    );
}
