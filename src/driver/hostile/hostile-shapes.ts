import type { HostileShape } from "./hostile-shape.js";
import { BLK_SHAPES } from "./shapes-blk.js";
import { CHAIN_SHAPES } from "./shapes-chains.js";
import { LAYOUT_SHAPES } from "./shapes-layouts.js";
import { RING_SHAPES } from "./shapes-rings.js";
import { TABLE_SHAPES } from "./shapes-tables.js";

/**
 * Every way to break a ring that we know of, by name; no two have the same. Each plays on the
 * formats and features that it names, and is skipped elsewhere.
 */
export const HOSTILE_SHAPES: readonly HostileShape[] = [
  ...CHAIN_SHAPES,
  ...TABLE_SHAPES,
  ...RING_SHAPES,
  ...LAYOUT_SHAPES,
  ...BLK_SHAPES,
];
