// Runs a device that has no thread beside a test that waits for it.

import { setTimeout as sleep } from "node:timers/promises";
import type { OpenOptions } from "#dist/loopback.js";

/** Passes between two turns of the event loop, at most. */
const PASSES_MAX = 50;

/**
 * Does what is pending for `device`, over and over, when `mode` is inline; what it returns stops
 * that, and resolves when it has ended.
 */
export function pump(device: { runPending(): boolean }, mode: OpenOptions): () => Promise<void> {
  let isOpen = mode.run === "inline";
  const run = async () => {
    while (isOpen) {
      for (let i = 0; i < PASSES_MAX && device.runPending(); i++) {}
      await sleep(0);
    }
  };
  const running = run();
  return () => {
    isOpen = false;
    return running;
  };
}
