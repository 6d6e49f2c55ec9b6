import { writeSync } from "node:fs";
import { Waker } from "./wait.js";

/** What is written to an eventfd: eight bytes that count one. */
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/**
 * Wakes a task from any thread; `wakeFd`: an eventfd that ends its sleep as well, of which Node
 * alone can write the count.
 */
export function eventfdWaker(words: SharedArrayBuffer, wakeFd: number | undefined): Waker {
  if (wakeFd === undefined) return new Waker(words);
  return new Waker(words, () => {
    try {
      writeSync(wakeFd, ONE);
    } catch {
      // It is full, so its reader is awake; or it is closed, and there is none.
    }
  });
}
