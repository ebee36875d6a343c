// scripts/cluster_clients: CLIENTS and KILLS.

import { isExact, printed, storm } from "./support/storm.mjs";

const [clients, kills] = [process.argv[2] ?? 30, process.argv[3] ?? 20].map(Number);
const isLarge = clients > 300;
const found = await storm({
  clients,
  kills,
  members: isLarge ? 100 : 10,
  sendersEach: isLarge ? 50 : 2,
  paceMs: isLarge ? 1_000 : 100,
  say: (what) => console.log(what),
});
console.log(`\n${printed(found)}`);
process.exit(isExact(found) ? 0 : 1);
