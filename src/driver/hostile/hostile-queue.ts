import { setImmediate as nextTurn } from "node:timers/promises";
import { vringAreas } from "../../memory/vring.js";
import type { QueueAddresses, Transport } from "../transport.js";
import type { HostileMemory } from "./hostile-memory.js";
import type { HostileRequest } from "./hostile-request.js";
import type { HostileRing, HostileUsed } from "./hostile-ring.js";
import type { HostileLayout } from "./hostile-shape.js";
import { type BufferRoom, HostileStage } from "./hostile-stage.js";
import { PackedHostileRing } from "./packed-hostile-ring.js";
import { SplitHostileRing } from "./split-hostile-ring.js";

/** A queue's part of region 0: areas with canaries round them, room for a layout, buffers. */
const AREAS_BYTES = 8192;
const SPARE_BYTES = 8192;
const BUFFER_BYTES = 16384;
/** Bytes of region 0 that a queue takes. */
export const HOSTILE_QUEUE_BYTES = AREAS_BYTES + SPARE_BYTES + BUFFER_BYTES;
/** Entries that a queue may have, so that all of it fits. */
export const HOSTILE_NUM_MAX = 256;
const CANARY_BYTES = 64;
/** How long to sleep for a call that a shape may have turned off. */
const CALL_MS = 2;

/** What a queue is, whatever its layout. */
export interface HostileQueueSetup {
  transport: Transport;
  memory: HostileMemory;
  index: number;
  num: number;
  isPacked: boolean;
  hasEventIdx: boolean;
  request: HostileRequest;
}

/** One queue of a hostile driver, as it is after one start of the device. One thread. */
export class HostileQueue {
  /** Where it lies. */
  readonly areas: QueueAddresses;
  readonly ring: HostileRing;
  readonly #setup: HostileQueueSetup;
  readonly #room: BufferRoom;

  /** Writes its canaries. `layout`: how it is laid out, if not well; its ring may make no sense. */
  constructor(setup: HostileQueueSetup, layout?: HostileLayout) {
    const { memory, index, num, isPacked } = setup;
    this.#setup = setup;
    const start = memory.startOf(0) + BigInt(index * HOSTILE_QUEUE_BYTES);
    const spare = start + BigInt(AREAS_BYTES);
    this.#room = { start: spare + BigInt(SPARE_BYTES), bytes: BUFFER_BYTES };
    const good = layOut(memory, start, num, isPacked);
    const isLaidOut = layout && !layout.whileRunning;
    this.areas = isLaidOut ? layout.areas(good, memory, spare) : good;
    this.ring = this.#makeRing(good, layout);
  }

  /** A ring over what was laid out or, when that can't be, over what would have been good. */
  #makeRing(good: QueueAddresses, layout: HostileLayout | undefined): HostileRing {
    const { memory, isPacked, hasEventIdx } = this.#setup;
    const areas = layout?.firstDesc ? this.areas : good;
    const ring = { memory, areas, hasEventIdx };
    return isPacked
      ? new PackedHostileRing(ring)
      : new SplitHostileRing(ring, layout?.firstDesc?.(areas.num));
  }

  /** What a shape is written with. Only while nothing is outstanding: the buffers are the same. */
  stage(): HostileStage {
    const { memory, transport, request } = this.#setup;
    return new HostileStage(memory, this.ring, transport.deviceId, request, this.#room);
  }

  /** A copy of all of region 0 that is the queue's. */
  snapshot(): Buffer {
    const { memory, index } = this.#setup;
    const start = memory.startOf(0) + BigInt(index * HOSTILE_QUEUE_BYTES);
    return Buffer.from(memory.read(start, HOSTILE_QUEUE_BYTES));
  }

  /** Makes visible what was staged, and kicks. */
  publish(): void {
    this.ring.publish();
    this.#setup.transport.kick(this.#setup.index);
  }

  /** Puts right what the device refuses; and kicks, for those that look again only then. */
  async repair(): Promise<void> {
    await this.ring.repair(this.stage().good());
    this.#setup.transport.kick(this.#setup.index);
  }

  /**
   * What comes back until all has, or `isOver`, or so many milliseconds have passed; these pass
   * when the ring has lied, since then nothing is known of what comes. Keeps the program alive
   * meanwhile: a wait for a call does not, and a device that dies calls no more.
   */
  async collect(ms: number, isOver: () => boolean): Promise<HostileUsed[]> {
    const alive = setTimeout(() => {}, ms + CALL_MS);
    try {
      return await this.#collect(ms, isOver);
    } finally {
      clearTimeout(alive);
    }
  }

  async #collect(ms: number, isOver: () => boolean): Promise<HostileUsed[]> {
    const { transport } = this.#setup;
    const all: HostileUsed[] = [];
    for (const end = performance.now() + ms; ; ) {
      const seen = transport.callSequence();
      for (let used = this.ring.take(); used; used = this.ring.take()) all.push(used);
      const left = end - performance.now();
      const isAll = this.ring.outstanding === 0 && !this.ring.hasLied;
      if (isAll || left <= 0 || isOver()) return all;
      await transport.waitCall(seen, Math.min(left, CALL_MS));
      await nextTurn();
    }
  }
}

/** Areas one after another, with canaries between them. */
function layOut(
  memory: HostileMemory,
  start: bigint,
  num: number,
  isPacked: boolean,
): QueueAddresses {
  let at = start;
  const place = (bytes: number): bigint => {
    const address = at + BigInt(CANARY_BYTES);
    memory.guard(memory.toLinear(at), CANARY_BYTES);
    const end = address + BigInt(bytes);
    at = ((end + 63n) / 64n) * 64n;
    memory.guard(memory.toLinear(end), Number(at - end));
    return address;
  };
  const sizes = vringAreas(num, isPacked);
  const desc = place(sizes.desc.bytes);
  const driver = place(sizes.driver.bytes);
  const device = place(sizes.device.bytes);
  memory.guard(memory.toLinear(at), CANARY_BYTES);
  return { num, desc, driver, device };
}
