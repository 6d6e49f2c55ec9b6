// Runs devices that have no thread beside a test that waits for them.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { OpenOptions } from "#dist/loopback.js";

interface Inline {
  runPending(): boolean;
}

/** Does what is pending, at most so many passes between two turns of the event loop. */
async function work(device: Inline, isOpen: () => boolean, passesMax: number): Promise<void> {
  while (isOpen()) {
    for (let i = 0; i < passesMax && device.runPending(); i++) {}
    await nextTurn();
  }
}

/** Does what is pending for `device`, a pass a turn, until `waited` has ended: its outcome. */
export async function pump<T>(device: Inline, waited: Promise<T>): Promise<T> {
  let isOpen = true;
  const end = () => {
    isOpen = false;
  };
  waited.then(end, end);
  await work(device, () => isOpen, 1);
  return waited;
}

/**
 * Does what is pending for `device`, over and over, when `mode` is inline; what it returns stops
 * that, and resolves when it has ended.
 */
export function keepPumping(device: Inline, mode: OpenOptions): () => Promise<void> {
  let isOpen = mode.run === "inline";
  const running = work(device, () => isOpen, 50);
  return () => {
    isOpen = false;
    return running;
  };
}
