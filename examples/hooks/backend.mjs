// A backend for Slackir's hook, with nothing but Node: members of a room chat, and the messages are this program's own.
//
//   SLACKIR_HOOK_SECRET=.. PORT=5000 node examples/hooks/backend.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.SLACKIR_HOOK_SECRET;
if (!secret) throw new Error("SLACKIR_HOOK_SECRET is not set");
const MAX_AGE_S = 300;

// A real application has these in its database.
const members = { 12: { 7: "Ada", 8: "Bob" } };
const messages = { 12: [] };

/** Whether the call comes from the server, and is not older than five minutes. */
function isSigned(header = "", body) {
  const [, seconds, signature] = header.match(/^t=(\d+),v1=([0-9a-f]{64})$/) ?? [];
  if (!seconds || Math.abs(Date.now() / 1000 - seconds) > MAX_AGE_S) return false;
  const expected = createHmac("sha256", secret).update(`${seconds}.`).update(body).digest();
  return timingSafeEqual(expected, Buffer.from(signature, "hex"));
}

const answers = {
  join({ segments: [room], user }) {
    const name = members[room]?.[user.id];
    if (!name) return { ok: false, error: { reason: "not a member" } };
    return { ok: true, reply: { messages: messages[room] }, user: { name } };
  },

  event({ segments: [room], event, payload, user }) {
    if (event !== "new_message") return { ok: false, error: { reason: "unknown event" } };
    const body = payload?.body;
    if (typeof body !== "string" || !body) return { ok: false, error: { reason: "body is missing" } };
    const message = { id: messages[room].length + 1, name: user.name, body };
    messages[room].push(message);
    return { ok: true, reply: message, do: [{ broadcast: "new_message", payload: message }] };
  },
};

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (!isSigned(request.headers["slackir-signature"], body)) {
    response.writeHead(401).end("wrong signature");
    return;
  }
  const call = JSON.parse(body);
  const answer = answers[call.type]?.(call) ?? { ok: true };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
});

server.listen(Number(process.env.PORT ?? 5000), "127.0.0.1");
