import { setTimeout as pause } from "node:timers/promises";

export const DEADLINE_MS = 10_000;
const POLL_MS = 5;

/** Resolves to the first truthy value of `condition`, or fails naming `what` did not happen. */
export async function until(what, condition, deadlineMs = DEADLINE_MS) {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${deadlineMs} ms in vain for ${what}`);
    await pause(POLL_MS);
  }
}
