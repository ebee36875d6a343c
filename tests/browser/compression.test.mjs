// The chat page against a server with `compress`: Chromium agrees on permessage-deflate by itself.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { BROWSER, PATIENCE_MS, Server, eventually } from "./server.mjs";

let browser;

before(async () => {
  browser = await chromium.launch(BROWSER);
});

after(() => browser?.close());

test("two pages exchange compressed messages, and a third reads them in its history", async (t) => {
  const server = await Server.start(t, 'compress = "on"\n');
  const text = "all of this is said again and again, ".repeat(50);
  const open = async () => {
    const page = await browser.newPage();
    t.after(() => page.close());
    page.setDefaultTimeout(PATIENCE_MS);
    const network = await page.context().newCDPSession(page);
    await network.send("Network.enable");
    const answered = new Promise((resolve) =>
      network.once("Network.webSocketHandshakeResponseReceived", ({ response }) => resolve(response.headers)),
    );
    await page.goto(server.url);
    const headers = Object.entries(await answered).map(([name, value]) => [name.toLowerCase(), value]);
    assert.match(Object.fromEntries(headers)["sec-websocket-extensions"], /^permessage-deflate;/);
    return page;
  };
  const [ada, bob] = [await open(), await open()];
  await ada.fill("#name", "Ada");
  await ada.fill("#message", text);
  await ada.press("#message", "Enter");
  const seen = (page) => () => page.locator(".message-text").allTextContents();
  const shown = (texts) => texts.some((shown) => shown.trim() === text.trim());
  await eventually(seen(bob), shown);
  await eventually(seen(await open()), shown);
});
