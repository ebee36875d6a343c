// Chat in a cluster whose nodes are killed and restarted, and whose Redis is replaced. Every member must end with
// exactly what the database has, in one order.

import { setTimeout as pause } from "node:timers/promises";

import { Cluster } from "./cluster.mjs";
import { Member } from "./member.mjs";

/** Where the bars of the histogram end, in milliseconds. */
const BARS = [50, 100, 200, 500, 1_000, 2_000, 5_000, Infinity];
/** Two faults that would lose messages together are so far apart. */
const QUIET_MS = 3_000;
const PATIENCE_MS = 30_000;

/**
 * Runs a storm: so many clients, of which every `sendersEach`th sends each `paceMs`, in rooms of so many members; so
 * many nodes are killed, then all are restarted one after the other, then Redis is replaced by an empty one.
 */
export async function storm({ clients, members = 10, sendersEach = 2, paceMs = 100, kills, say = () => {} }) {
  const cluster = await Cluster.start(3);
  const phases = [];
  try {
    const all = Array.from({ length: clients }, (_, n) => {
      return new Member(cluster.socketUrl, `random:${Math.floor(n / members)}`, `member-${n}`);
    });
    for (let at = 0; at < all.length; at += 100) {
      await Promise.all(all.slice(at, at + 100).map((member) => member.join()));
    }
    say(`${clients} clients have joined`);
    const senders = all.filter((_, n) => n % sendersEach === 0);
    const sending = Promise.all(senders.map((member) => member.send(paceMs)));
    sending.catch(() => {});
    for (const [name, work] of faults(cluster, kills, say)) {
      const begun = performance.now();
      await work();
      await pause(QUIET_MS);
      phases.push({ name, begun, ended: performance.now() });
    }
    senders.forEach((member) => member.stopSending());
    await sending;
    await whole(cluster, all);
    all.forEach((member) => member.leave());
    return report(all, cluster.stored("mark"), phases);
  } finally {
    await cluster.stop();
  }
}

function faults(cluster, kills, say) {
  const killed = async () => {
    for (let n = 0; n < kills; n += 1) {
      const node = cluster.nodes[Math.floor(Math.random() * cluster.nodes.length)];
      say(`kill ${n + 1} of ${kills}`);
      await node.kill();
      await pause(500 + Math.random() * 1_000);
      await node.start();
      await pause(500 + Math.random() * 1_000);
    }
  };
  const rolled = async () => {
    for (const node of cluster.nodes) {
      say("a node restarts");
      await node.stop();
      await node.start();
    }
  };
  const emptied = async () => {
    say("Redis is replaced");
    await cluster.killRedis();
    await cluster.startRedis();
  };
  return [
    [`${kills} killed nodes`, killed],
    ["a rolling restart", rolled],
    ["an empty Redis", emptied],
  ];
}

/** Waits until every member has the last message of its room, and the database has all of them. */
async function whole(cluster, members) {
  const last = () => {
    const stored = cluster.stored("mark");
    const lacks = members.filter((member) => member.seen.at(-1) !== stored[member.topic]?.at(-1));
    return lacks.length === 0;
  };
  const deadline = Date.now() + PATIENCE_MS;
  while (!last() && Date.now() < deadline) await pause(500);
}

/** What members have got, against what the database has. */
function report(members, stored, phases) {
  const found = { messages: 0, deliveries: 0, confirmed: 0, anew: 0, lost: 0, doubled: 0, disordered: 0, unsaved: 0 };
  const places = {};
  for (const [topic, marks] of Object.entries(stored)) {
    found.messages += marks.length;
    found.doubled += marks.length - new Set(marks).size;
    places[topic] = new Map(marks.map((mark, place) => [mark, place]));
  }
  for (const member of members) check(member, places[member.topic] ?? new Map(), found);
  // Only a new Redis may cost somebody the resume.
  const emptied = phases.at(-1).begun;
  const absences = members.flatMap((member) => member.absences);
  const unresumed = absences.filter(({ at, resumed }) => !resumed && at < emptied).length;
  return { ...found, unresumed, phases: phases.map((phase) => ({ name: phase.name, ...away(absences, phase) })) };
}

function check(member, places, found) {
  found.confirmed += member.confirmed.length;
  found.unsaved += member.confirmed.filter((mark) => !places.has(mark)).length;
  let before;
  const had = new Set();
  for (const mark of member.seen) {
    if (mark === null) {
      found.anew += 1;
      before = undefined;
      continue;
    }
    found.deliveries += 1;
    const place = places.get(mark);
    if (had.has(mark)) found.doubled += 1;
    else if (place === undefined) found.unsaved += 1;
    else if (before !== undefined && place < before) found.disordered += 1;
    else if (before !== undefined) found.lost += place - before - 1;
    had.add(mark);
    before = place ?? before;
  }
  if (before !== undefined) found.lost += places.size - 1 - before;
}

/** How many clients were away for how long. */
function away(absences, { begun, ended }) {
  const all = absences.filter(({ at }) => at >= begun && at < ended);
  const bars = BARS.map((end, n) => {
    const from = BARS[n - 1] ?? 0;
    return all.filter(({ ms }) => ms >= from && ms < end).length;
  });
  return { away: all.length, bars, longest: Math.max(0, ...all.map(({ ms }) => ms)) };
}

export const isExact = ({ lost, doubled, disordered, unsaved, unresumed }) =>
  lost + doubled + disordered + unsaved + unresumed === 0;

/** The report as text. */
export function printed({ phases, ...found }) {
  const lines = [
    `${found.messages} messages, ${found.confirmed} confirmed; ${found.deliveries} deliveries`,
    `lost ${found.lost}, doubled ${found.doubled}, out of order ${found.disordered}, not saved ${found.unsaved}`,
    `not resumed ${found.unresumed}; ${found.anew - found.unresumed} had to begin anew because Redis was replaced`,
  ];
  for (const { name, away, bars, longest } of phases) {
    lines.push("", `${name}: ${away} times a client was away, ${Math.round(longest)} ms at most`);
    bars.forEach((count, n) => {
      const end = BARS[n] === Infinity ? "longer" : `to ${BARS[n]} ms`;
      if (count) lines.push(`${end.padStart(12)} ${String(count).padStart(6)} ${"#".repeat(Math.ceil((60 * count) / away))}`);
    });
  }
  return lines.join("\n");
}
