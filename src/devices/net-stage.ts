import { loadMovePackets, type MovePackets } from "../ring/packets.js";
import { NET_RECORD_PREFIX_BYTES, recordBytes } from "../spec/net-record.js";
import type { DeviceHost } from "../vhost/device.js";
import type { Virtqueue } from "../vhost/virtqueue.js";

/** Bytes of one: some twenty packets of the usual largest size, and no more than a cache holds. */
const STAGE_BYTES = 1 << 15;
/** No two on one cache line. */
const STAGE_ALIGN = 64;
/** Host memory that must be free: most of it is for rings. */
const FREE_BYTES_MIN = 16 * STAGE_BYTES;

/** Chains of a network device's queue that are popped at once, at most. */
export const NET_BURST_MAX = 64;

/** Where the stages of a device lie: addresses in its owner's memory. Structured-cloneable. */
export interface NetStagesPlace {
  /** Of packets from the guest. */
  from: number;
  /** Of packets to the guest. */
  to: number;
  /** Of packets from the guest, before it is known where they go. */
  taken: number;
}

/** Chains of a burst that a queue has popped: `count` from `first` on. */
export interface NetBurst {
  readonly vq: Virtqueue;
  first: number;
  count: number;
}

/** Gets packets, one after another: `length` bytes from `at` on, `struct virtio_net_hdr` first. */
export type NetPackets = (bytes: Uint8Array, at: number, length: number) => void;

/** Who has a stage. */
export interface NetStageUser {
  /** Publishes what was done there. */
  flush(): void;
  /** That, and has it no more. */
  leave(): void;
}

/**
 * A part of a pipe, copied into host memory of the process whose rings the device works on: the
 * packets of a burst go between pipe and stage in one copy, and between stage and the guest's
 * buffers by copies within one memory, which are the cheapest there are. One pipe has it at a time.
 * Worker's thread.
 */
export class NetStage {
  readonly bytes: Uint8Array;
  /** The same, for its `fill`. */
  readonly block: Buffer;
  /** The same, for the numbers before packets. */
  readonly words: Uint32Array;
  /** The same, for what packets begin with. */
  readonly view: DataView<ArrayBufferLike>;
  /** How packets get to the rings' buffers, and from them. */
  readonly #move: MovePackets;
  /** The pipe that has it. */
  user: NetStageUser | undefined;

  /** `address`: of STAGE_BYTES bytes that are a device's alone. */
  constructor(memory: WebAssembly.Memory, address: number) {
    this.bytes = new Uint8Array(memory.buffer, address, STAGE_BYTES);
    this.#move = loadMovePackets(memory);
    this.block = Buffer.from(memory.buffer, address, STAGE_BYTES);
    this.words = new Uint32Array(memory.buffer, address, STAGE_BYTES / 4);
    this.view = new DataView(memory.buffer, address, STAGE_BYTES);
  }

  /** Shows `each` the packets of `packets` records from `at` on. Returns the records' bytes. */
  forEach(at: number, packets: number, each: NetPackets): number {
    let record = at;
    for (let i = 0; i < packets; i++) {
      const length = this.words[record >>> 2] as number;
      each(this.bytes, record + NET_RECORD_PREFIX_BYTES, length);
      record += recordBytes(length);
    }
    return record - at;
  }

  /** Where those of `most` records from `at` on end that have room together, and how many. */
  fitting(at: number, most: number, room: number): [number, number] {
    let end = at;
    for (let count = 0; count < most; count++) {
      const record = recordBytes(this.words[end >>> 2] as number);
      if (end - at + record > room) return [end, count];
      end += record;
    }
    return [end, most];
  }

  /** `MovePackets` for the part of the stage from `at` to `end`. */
  move(burst: NetBurst, at: number, end: number, isFromGuest: boolean): number {
    const { vq, first, count } = burst;
    const address = this.bytes.byteOffset;
    return vq.movePackets(this.#move, first, count, [address + at, address + end], isFromGuest);
  }
}

/** The stages of a device. */
export class NetStages {
  readonly from: NetStage;
  readonly to: NetStage;
  /** No pipe has it. */
  readonly taken: NetStage;

  constructor(memory: WebAssembly.Memory, place: NetStagesPlace) {
    this.from = new NetStage(memory, place.from);
    this.to = new NetStage(memory, place.to);
    this.taken = new NetStage(memory, place.taken);
  }

  /** A burst is over: what was written and read there is published. */
  flush(): void {
    this.from.user?.flush();
    this.to.user?.flush();
  }
}

/**
 * Host memory for the stages of a device; `undefined`: there is not enough, and it works without
 * them. Opening thread.
 */
export function allocNetStages({ ringKind, shared }: DeviceHost): NetStagesPlace | undefined {
  if (ringKind !== "wasm" || shared.host.freeBytes < FREE_BYTES_MIN) return undefined;
  try {
    const from = shared.allocHost(3 * STAGE_BYTES, STAGE_ALIGN);
    return { from, to: from + STAGE_BYTES, taken: from + 2 * STAGE_BYTES };
  } catch {
    return undefined; // in pieces
  }
}

/** Gives it back. Opening thread, after the device's end. */
export function freeNetStages({ shared }: DeviceHost, place: NetStagesPlace | undefined): void {
  if (place) shared.host.free(place.from);
}
