// A running vhost-vsock as the data-path scenarios begin with, and what a driver sees of it.

import type { VsockHeader } from "#dist/vsock/header.js";
import { writeHeader } from "#dist/vsock/header.js";
import type { VsockSockets } from "#dist/vsock/sockets.js";
import { wholeMemory } from "./descriptors.js";
import { ScriptError } from "./errors.js";
import type { IoctlArg } from "./ioctl-arg.js";
import type { Proc } from "./proc.js";
import type { Desc, ProgramEventFd, Ring } from "./ring.js";

/** The guest's CID. */
export const CID = 42;
/** Bytes of a packet's header. */
export const HEADER_BYTES = 44;
/** Descriptor flags. */
export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;
/** A guest address that no region has. */
export const UNMAPPED = 0xdead_0000n;
/** Features, by what the records call them. */
export const PLAIN = 0x100000000n;
export const WITH_INDIRECT = 0x110000000n;
export const WITH_EVENT_IDX = 0x120000000n;

const OP_REQUEST = 1;
const RX_BYTES = 512;
const PAGE_BYTES = 4096;

/** How the device is set up; what is left out is as most records have it. */
export interface RigOptions {
  features?: bigint;
  num?: number;
  base?: number;
  /** Buffers of 512 bytes in the RX ring. */
  rxBuffers?: number;
  /** Default true. */
  isRunning?: boolean;
  /** Before SET_OWNER. */
  forkFromOwner?: 0 | 1;
  /** In place of one region that is all of the memory. */
  regions?: readonly Record<string, bigint>[];
}

/** Fields of a packet's header; default: a REQUEST for a port that nobody listens at. */
export type Packet = Partial<VsockHeader>;

/** A device, its rings, and memory for packets. */
export class VsockRig {
  readonly fd: number;
  readonly rx: Ring;
  readonly tx: Ring;
  /** The last page of memory that was taken for packets: it is handed out from here on. */
  #free: number;
  #left: number;

  constructor(
    readonly main: Proc,
    { features = PLAIN, num = 8, base = 0, rxBuffers = 4, ...options }: RigOptions = {},
  ) {
    this.#left = 16 * PAGE_BYTES;
    this.#free = main.mapPages(this.#left);
    this.fd = main.open("/dev/vhost-vsock");
    if (options.forkFromOwner !== undefined) {
      this.must("VHOST_SET_FORK_FROM_OWNER", options.forkFromOwner);
    }
    this.must("VHOST_SET_OWNER");
    const rings = main.mapVsockRings(num);
    this.rx = rings.rx;
    this.tx = rings.tx;
    this.must("VHOST_SET_FEATURES", features);
    const regions = options.regions ?? [wholeMemory(this.memory)];
    this.must("VHOST_SET_MEM_TABLE", { regions });
    for (const [index, ring] of [this.rx, this.tx].entries()) {
      ring.availIdx = base;
      ring.usedIdx = base;
      this.must("VHOST_SET_VRING_NUM", { index, num });
      this.must("VHOST_SET_VRING_BASE", { index, num: base });
      for (const what of ["ADDR", "KICK", "CALL", "ERR"]) {
        this.must(`VHOST_SET_VRING_${what}`, { index, ring });
      }
    }
    this.must("VHOST_VSOCK_SET_GUEST_CID", CID);
    for (let i = 0; i < rxBuffers; i++) this.postRx(i, RX_BYTES);
    if (options.isRunning ?? true) this.must("VHOST_VSOCK_SET_RUNNING", 1);
  }

  get memory(): WebAssembly.Memory {
    const { mm } = this.main.task;
    if (mm === null) throw new ScriptError("it has no memory");
    return mm.memory;
  }

  ioctl(name: string, arg?: IoctlArg): string {
    return this.main.ioctl(this.fd, name, arg);
  }

  /** An ioctl that succeeds. */
  must(name: string, arg?: IoctlArg): void {
    const result = this.ioctl(name, arg);
    if (result !== "OK") throw new ScriptError(`${name}: ${result}`);
  }

  /** Memory for so many bytes. */
  alloc(bytes: number): number {
    const take = Math.ceil(bytes / 64) * 64;
    if (take > this.#left) return this.main.mapPages(bytes);
    const address = this.#free;
    this.#free += take;
    this.#left -= take;
    return address;
  }

  /** Puts an RX buffer in descriptor `index` and makes it available. */
  postRx(index: number, len: number, flags = WRITE): number {
    const addr = this.alloc(len);
    this.rx.setDesc(index, { addr, len, flags });
    this.rx.publish(index);
    return addr;
  }

  /** A packet in memory: where. */
  packet(fields: Packet = {}, address = this.alloc(HEADER_BYTES)): number {
    const header = {
      ...{ srcCid: CID, dstCid: 2, srcPort: 1000, dstPort: 9999, len: 0, type: 1 },
      ...{ op: OP_REQUEST, flags: 0, bufAlloc: 0, fwdCnt: 0 },
      ...fields,
    };
    writeHeader(new DataView(this.memory.buffer), address, header);
    return address;
  }

  /** Descriptors of the TX ring, from number 0 on. */
  setTx(...descs: Desc[]): void {
    for (const [index, desc] of descs.entries()) this.tx.setDesc(index, desc);
  }

  /** A REQUEST in descriptor `index`, made available. */
  sendRequest(index = 0): void {
    this.tx.setDesc(index, { addr: this.packet(), len: HEADER_BYTES });
    this.tx.publish(index);
  }

  kick(ring = this.tx): void {
    this.main.kick(ring);
  }

  /** VHOST_GET_VRING_BASE. */
  lastAvail(index = 1): number {
    const arg = { index, num: -1 };
    this.must("VHOST_GET_VRING_BASE", arg);
    return arg.num;
  }

  /** What can be seen of the TX ring, by the names that the records have. */
  seen(prefix: string): Record<string, number> {
    const { tx } = this;
    return {
      [`${prefix}_used_idx`]: tx.usedIdx,
      [`${prefix}_last_avail`]: this.lastAvail(),
      [`${prefix}_err_signals`]: tx.err.read(),
      [`${prefix}_call_signals`]: tx.call.read(),
      [`${prefix}_used_flags`]: tx.usedFlags,
    };
  }

  /** Kicks TX, and looks. */
  kickAndSee(prefix: string): Record<string, number> {
    this.kick();
    return this.seen(prefix);
  }

  /** The header in an RX buffer: a view of it. */
  at(address: number): DataView {
    return new DataView(this.memory.buffer, address);
  }

  /** The host's sockets to the guest. */
  get sockets(): VsockSockets {
    const sockets = this.main.opened(this.fd)?.sockets;
    if (sockets) return sockets;
    throw new ScriptError("the device has no sockets");
  }

  /** Another eventfd. */
  useCall(call: ProgramEventFd): string {
    this.tx.call = call;
    return this.ioctl("VHOST_SET_VRING_CALL", { index: 1, eventfd: call });
  }
}

/**
 * What scenarios of a wrong head do: kick twice, repair every slot, one more; `heads`: how many are
 * available at first.
 */
export function kickRepairNext(rig: VsockRig, heads = 1): Record<string, number> {
  const { tx, rx } = rig;
  tx.availIdx += heads;
  const seen = { ...rig.kickAndSee("kick1"), ...rig.kickAndSee("kick2") };
  tx.setDesc(2, { addr: rig.packet(), len: HEADER_BYTES });
  for (let slot = 0; slot < tx.num; slot++) tx.setSlot(slot, 2);
  Object.assign(seen, rig.kickAndSee("repaired"), { repaired_rx_used_idx: rx.usedIdx });
  tx.publish(2);
  Object.assign(seen, rig.kickAndSee("next"), { next_rx_used_idx: rx.usedIdx });
  return { ...seen, used0_id: tx.usedEntry(0).id };
}
