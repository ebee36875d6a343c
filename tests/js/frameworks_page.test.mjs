// The code of docs/FRAMEWORKS.md in React, Vue and Svelte, in jsdom, against a server with the page's configuration.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { JSDOM } from "jsdom";
import WebSocket from "ws";

import { disconnect, newest } from "./support/clients.mjs";
import { until } from "./support/deadline.mjs";
import { ONE_BY_ONE, TIME_LIMIT } from "./support/scenario.mjs";
import { Server } from "./support/server.mjs";

const page = await readFile(new URL("../../docs/FRAMEWORKS.md", import.meta.url), "utf8");
const block = (language) => page.match(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``))?.[1] ?? assert.fail(`no ${language}`);

/** Each mounts a component that shows a room as text, and returns `say` and `unmount`. */
const FRAMEWORKS = {
  async react({ useRoom }, topic, root) {
    const { StrictMode, createElement } = await import("react");
    const { createRoot } = await import("react-dom/client");
    const mounted = createRoot(root);
    let say;
    function Room() {
      const room = useRoom(topic);
      say = room.say;
      return shown(room);
    }
    mounted.render(createElement(StrictMode, null, createElement(Room)));
    return { say: (body) => say(body), unmount: () => mounted.unmount() };
  },
  async vue({ useRoom }, topic, root) {
    const { createApp, h } = await import("vue");
    let say;
    const app = createApp({
      setup() {
        const opened = useRoom(topic);
        say = opened.say;
        return () => h("p", shown(opened.room.value));
      },
    });
    app.mount(root);
    return { say, unmount: () => app.unmount() };
  },
  async svelte({ roomStore }, topic, root) {
    const store = roomStore(topic);
    const unsubscribe = store.subscribe((room) => (root.textContent = shown(room)));
    return { say: store.say, unmount: unsubscribe };
  },
};

const shown = ({ status, messages }) => [status, ...messages.map(({ name, body }) => `${name}: ${body}`)].join("; ");

describe("docs/FRAMEWORKS.md", ONE_BY_ONE, () => {
  let server, dom, folder, chat, bob;

  before(async () => {
    // With a history of one message, only a resume brings all that was missed.
    server = await Server.create({ config: `history_limit = 1\n${block("toml chat")}` });
    await server.start();
    dom = new JSDOM("<body></body>", { url: server.socketUrl.replace("ws:", "http:"), pretendToBeVisual: true });
    // phoenix.js and the frameworks look for a browser when they are imported.
    const { window } = dom;
    const { document, location, navigator, Element, SVGElement } = window;
    const browser = { window, self: window, document, location, navigator, Element, SVGElement };
    for (const [name, value] of Object.entries(browser)) Object.defineProperty(globalThis, name, { value, configurable: true });
    folder = await mkdtemp(fileURLToPath(new URL("./.frameworks-", import.meta.url)));
    await writeFile(join(folder, "package.json"), '{ "type": "module" }');
    for (const name of ["chat", ...Object.keys(FRAMEWORKS)]) {
      const code = block(`js ${name}`).replace('from "phoenix"', 'from "phoenix-1.8"');
      await writeFile(join(folder, `${name}.js`), code);
    }
    chat = await import(pathToFileURL(join(folder, "chat.js")));
    bob = new newest.Socket(server.socketUrl, { transport: WebSocket, params: { name: "bob" } });
    bob.connect();
  });

  after(async () => {
    for (const socket of [chat?.socket, bob]) if (socket) disconnect(socket);
    dom.window.close();
    await rm(folder, { recursive: true });
    await server.remove();
  });

  for (const [name, mount] of Object.entries(FRAMEWORKS)) {
    test(`${name}: a component has what it has missed, and leaves when it goes`, TIME_LIMIT, async () => {
      const code = await import(pathToFileURL(join(folder, `${name}.js`)));
      const topic = `room:${name}`;
      const root = document.body.appendChild(document.createElement("div"));
      const text = (expected) => until(`${expected} in ${name}`, () => root.textContent === expected);
      const component = await mount(code, topic, root);
      await text("here");
      const channel = bob.channel(topic, { history: "none" });
      channel.join();
      channel.push("new_msg", { body: "hi" });
      await text("here; bob: hi");
      component.say("hello");
      await text("here; bob: hi; ada: hello");

      chat.socket.disconnect();
      await text("away; bob: hi; ada: hello");
      channel.push("new_msg", { body: "missed" });
      await new Promise((resolve) => channel.push("new_msg", { body: "too" }).receive("ok", resolve));
      chat.socket.connect();
      await text("here; bob: hi; ada: hello; bob: missed; bob: too");

      // The network is back: the connection is another one, and nothing is shown twice.
      const before = chat.socket.conn;
      const listen = (event, does) => window.addEventListener(event, does, { once: true });
      new Function("addEventListener", "socket", block("js online"))(listen, chat.socket);
      window.dispatchEvent(new window.Event("online"));
      await until("another connection", () => chat.socket.conn !== before && chat.socket.isConnected());
      await text("here; bob: hi; ada: hello; bob: missed; bob: too");

      component.unmount();
      await until("the topic to be left", () => !chat.socket.channels.some((channel) => channel.topic === topic));
      await new Promise((resolve) => channel.push("new_msg", { body: "gone" }).receive("ok", resolve));
      assert.ok(!root.textContent.includes("gone"));
      channel.leave();
    });
  }
});
