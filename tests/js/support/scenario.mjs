import { test } from "node:test";

export const AT_ONCE = { concurrency: true };
export const ONE_BY_ONE = { concurrency: false };
export const TIME_LIMIT = { timeout: 60_000 };

/** A test in a room of its own. If it fails, the error tells what was on the wire. */
export function testIn(openRoom, name, steps) {
  test(name, TIME_LIMIT, async (t) => {
    const room = openRoom();
    t.after(() => room.close());
    await room.witness(() => steps(room, t));
  });
}
