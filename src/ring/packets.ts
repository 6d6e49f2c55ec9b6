import { instantiate } from "./load.js";

/**
 * Copies network packets between chains that were popped and a place in the same linear memory,
 * host memory, where packets lie one after another: `count` records from `first` on, one packet
 * each, and addresses from `at` to before `end`. In front of each packet are eight bytes, its
 * length in bytes the first four; each begins at a multiple of eight.
 *
 * Ends before a chain that is not one piece, readable or writable as `isFromGuest` says; before a
 * packet that is shorter than a header with the least frame, has no room in the piece or before
 * `end`; and before one whose header asks for something: its first two bytes are not 0. What was
 * copied of it by then does not count, and whoever handles it reads it anew.
 *
 * Of the others, from the guest: the length is written, and the header made to ask for nothing, in
 * the copy. CHAIN_USED_BYTES is set: to the guest the packet's length, else 0.
 * @returns how many were copied. virtio 1.3, 5.1.6 Device Operation.
 */
export type MovePackets = (
  vq: number,
  first: number,
  count: number,
  at: number,
  end: number,
  isFromGuest: boolean,
) => number;

/** Of the rings over `memory`, for the thread that calls. */
export function loadMovePackets(memory: WebAssembly.Memory): MovePackets {
  return instantiate(memory).movePackets;
}
