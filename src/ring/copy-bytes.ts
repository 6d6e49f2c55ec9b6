import { instantiate } from "./load.js";

/**
 * Copies `bytes` bytes within one linear memory, addresses in bytes; they may overlap. Both ranges
 * must lie in it: it traps. The other side may change them meanwhile.
 */
export type CopyBytes = (to: number, from: number, bytes: number) => void;

/** How bytes of `memory` are copied within it, by this thread: one call, one memmove(). */
export function copyBytesOf(memory: WebAssembly.Memory): CopyBytes {
  return instantiate(memory).copyBytes;
}
