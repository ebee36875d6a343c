// The page of docs/START.md, "A page of your own", with the configuration that is beside it.
import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { BROWSER, PATIENCE_MS, ROOT, Server, eventually } from "./server.mjs";

const text = await readFile(path.join(ROOT, "docs/START.md"), "utf8");
const block = (name) =>
  text.match(new RegExp(`<!-- file: ${name} -->\n\`\`\`\\w+\n([^]*?)\`\`\``))?.[1] ?? assert.fail(`no ${name}`);

let browser;

before(async () => {
  browser = await chromium.launch(BROWSER);
});

after(() => browser?.close());

test("two people see each other and what they say, and a third gets the history", async (t) => {
  const folder = path.join(await mkdtemp(path.join(tmpdir(), "slackir-start-")), "page");
  t.after(() => rm(path.dirname(folder), { recursive: true }));
  await mkdir(folder);
  await writeFile(path.join(folder, "index.html"), block("page/index.html"));
  const phoenix = path.join(ROOT, "assets/node_modules/phoenix/priv/static/phoenix.mjs");
  await cp(phoenix, path.join(folder, "phoenix.mjs"));
  const server = await Server.start(t, block("slackir.toml"), "--static-dir", folder);

  const open = async (name) => {
    const page = await browser.newPage();
    t.after(() => page.close());
    page.setDefaultTimeout(PATIENCE_MS);
    await page.goto(`${server.url}/?name=${name}`);
    return page;
  };
  const here = (page) => () => page.locator("#here").textContent();
  const said = (page) => () => page.locator("#messages li").allTextContents();
  const [ada, bob] = [await open("ada"), await open("bob")];
  await eventually(here(ada), "ada, bob");
  await eventually(here(bob), "ada, bob");
  await ada.fill("#text", "hello");
  await ada.press("#text", "Enter");
  for (const page of [ada, bob]) await eventually(said(page), ["ada: hello"]);
  await eventually(() => ada.inputValue("#text"), "");
  const eve = await open("eve");
  await eventually(said(eve), ["ada: hello"]);
  await eventually(here(bob), "ada, bob, eve");

  // The page comes back by itself, with each message once.
  await server.stop();
  await server.run();
  await bob.fill("#text", "again");
  await bob.press("#text", "Enter");
  for (const page of [ada, bob, eve]) await eventually(said(page), ["ada: hello", "bob: again"]);
});
