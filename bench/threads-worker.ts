// The other thread of bench/link.ts: the device of a ring, or the receiver of a MessagePort.

import { type MessagePort, workerData } from "node:worker_threads";
import { loadRings, type RingKind } from "#dist/ring/load.js";
import type { DeviceRing } from "#dist/ring/ring.js";
import { RingTables } from "#dist/ring/tables.js";
import { serve } from "./cycle.js";
import { GATE_ABORT, GATE_READY, SPINS_PER_LOOK } from "./threads-gate.js";

/** What a worker is made with; `ring` is missing for a receiver of messages. */
export interface PeerSetup {
  port: MessagePort;
  gate: Int32Array<SharedArrayBuffer>;
  ring?: { memory: WebAssembly.Memory; vq: number; kind: RingKind };
}

/**
 * What the owner asks for: to take so many items, chains in bursts of so many at most; messages: to
 * answer each at once or not.
 */
export interface PeerOrder {
  count: number;
  burst: number;
  isPingPong: boolean;
}

/** A message of the bench, as small as one that names a buffer can be. */
export interface BufferMessage {
  id: number;
  len: number;
}

/** Serves the chains; spins in between. Returns the sum of addresses and lengths. */
function serveRing(
  ring: DeviceRing,
  tables: RingTables,
  { count, burst }: PeerOrder,
  gate: Int32Array,
): number {
  let sum = 0;
  let idle = 0;
  for (let done = 0; done < count; ) {
    const got = ring.getDescs(burst);
    if (got <= 0) {
      if (++idle % SPINS_PER_LOOK === 0 && Atomics.load(gate, GATE_ABORT) !== 0) return sum;
      continue;
    }
    sum = (sum + serve(tables, got, 0)) | 0;
    ring.addUsedN(got);
    ring.publish();
    ring.callNeeded(); // a call would be made here; both sides spin
    done += got;
  }
  return sum;
}

const { port, gate, ring } = workerData as PeerSetup;
if (ring) {
  const device = loadRings(ring.memory, ring.kind).device(ring.vq);
  const tables = new RingTables(ring.memory, ring.vq);
  device.start(tables.position); // where the owner has started it
  port.on("message", (order: PeerOrder) => {
    Atomics.store(gate, GATE_READY, 1);
    port.postMessage(serveRing(device, tables, order, gate));
  });
} else {
  let order: PeerOrder = { count: 0, burst: 1, isPingPong: false };
  let done = 0;
  let sum = 0;
  port.on("message", (message: PeerOrder | BufferMessage) => {
    if ("count" in message) {
      order = message;
      done = sum = 0;
      Atomics.store(gate, GATE_READY, 1);
      return;
    }
    sum = (sum + message.id + message.len) | 0;
    done++;
    if (order.isPingPong) port.postMessage(message);
    if (done === order.count) port.postMessage(sum);
  });
}
