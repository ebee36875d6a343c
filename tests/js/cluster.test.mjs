// The short form of scripts/cluster_clients.

import assert from "node:assert/strict";
import { test } from "node:test";

import { POSTGRES } from "./support/cluster.mjs";
import { isExact, printed, storm } from "./support/storm.mjs";

const skip = !POSTGRES && "no PostgreSQL: run it by scripts/postgres";

test("clients of a cluster lose nothing while nodes die, restart, and Redis is replaced", { skip }, async () => {
  const found = await storm({ clients: 30, kills: 3 });
  assert.ok(found.messages > 300, printed(found));
  assert.ok(isExact(found), printed(found));
  assert.ok(found.phases[0].away > 0, "nodes with clients were killed");
});
