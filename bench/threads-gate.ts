/** Word of the gate: 1 when the other thread is about to begin. */
export const GATE_READY = 0;
/** Word of the gate: 1 when the other thread is to give up. */
export const GATE_ABORT = 1;
/** Looks at the ring between two looks at the gate or the clock. */
export const SPINS_PER_LOOK = 4096;
