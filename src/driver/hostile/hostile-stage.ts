import { VhostError } from "../../spec/errno.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../spec/virtio-ring.js";
import type { HostileMemory } from "./hostile-memory.js";
import { type HostileRequest, writingRequest } from "./hostile-request.js";
import type { HostileDesc, HostileRing } from "./hostile-ring.js";
import { PackedHostileRing } from "./packed-hostile-ring.js";
import { SplitHostileRing } from "./split-hostile-ring.js";

/** What the room for an answer holds before. */
const UNWRITTEN = 0xaa;

/** Where the buffers of one queue lie: guest addresses. */
export interface BufferRoom {
  start: bigint;
  bytes: number;
}

/** What a shape is written with: buffers, tables, and the ring of one queue. */
export class HostileStage {
  readonly memory: HostileMemory;
  readonly ring: HostileRing;
  /** Class of the device. */
  readonly deviceId: number;
  /** The request that shapes are made from. */
  readonly request: HostileRequest;
  readonly #room: BufferRoom;
  #taken = 0;
  #writable: HostileDesc[] = [];

  constructor(
    memory: HostileMemory,
    ring: HostileRing,
    deviceId: number,
    request: HostileRequest,
    room: BufferRoom,
  ) {
    this.memory = memory;
    this.ring = ring;
    this.deviceId = deviceId;
    this.request = request;
    this.#room = room;
  }

  /** The ring of a shape for split ones alone. Throws EINVAL for another. */
  get split(): SplitHostileRing {
    if (this.ring instanceof SplitHostileRing) return this.ring;
    throw new VhostError("EINVAL", "the shape is for split rings");
  }

  /** The ring of a shape for packed ones alone. Throws EINVAL for another. */
  get packed(): PackedHostileRing {
    if (this.ring instanceof PackedHostileRing) return this.ring;
    throw new VhostError("EINVAL", "the shape is for packed rings");
  }

  /** Guest address of a fresh run of bytes in region 0. Throws ENOMEM. */
  alloc(lengthBytes: number): bigint {
    const at = this.#taken;
    this.#taken += Math.ceil(lengthBytes / 16) * 16;
    if (this.#taken > this.#room.bytes) {
      const facts = { lengthBytes, bytes: this.#room.bytes };
      throw new VhostError("ENOMEM", "a shape has no more room for buffers", facts);
    }
    return this.#room.start + BigInt(at);
  }

  /** A buffer to read, with these bytes, fresh or at an address. */
  readable(bytes: Uint8Array, addr = this.alloc(bytes.length)): HostileDesc {
    this.memory.write(addr, bytes);
    return { addr, len: bytes.length };
  }

  /** A buffer to write, fresh or at an address; all of them in turn make the answer. */
  writable(lengthBytes: number, addr = this.alloc(lengthBytes)): HostileDesc {
    this.memory.write(addr, new Uint8Array(lengthBytes).fill(UNWRITTEN));
    const desc = { addr, len: lengthBytes, flags: VIRTQ_DESC_F_WRITE };
    this.#writable.push(desc);
    return desc;
  }

  /** The good request: a descriptor to read, then one or two to write. */
  good(): HostileDesc[] {
    const { readable, writableBytes } = this.request;
    const out = readable.length > 0 ? [this.readable(readable)] : [];
    if (writableBytes === 0) return out;
    if (writableBytes === 1) return [...out, this.writable(1)];
    return [...out, this.writable(writableBytes - 1), this.writable(1)];
  }

  /** A request that makes the device write over these bytes, and over nothing else. */
  writeOver({ address, bytes }: { address: number; bytes: number }): HostileDesc[] {
    const into = { addr: this.memory.toGuest(address), len: bytes, flags: VIRTQ_DESC_F_WRITE };
    const status = { addr: this.alloc(1), len: 1, flags: VIRTQ_DESC_F_WRITE };
    const readable = writingRequest(this.deviceId, this.request);
    return [...(readable.length > 0 ? [this.readable(readable)] : []), into, status];
  }

  /** A table at a guest address, and the descriptor that names it. */
  table(
    descs: readonly HostileDesc[],
    addr = this.alloc(descs.length * VIRTQ_DESC_BYTES),
  ): HostileDesc {
    const isSplit = this.ring instanceof SplitHostileRing;
    const bytes = new Uint8Array(descs.length * VIRTQ_DESC_BYTES);
    const view = new DataView(bytes.buffer);
    for (const [i, { addr: to, len, flags = 0, next = i + 1 }] of descs.entries()) {
      const at = i * VIRTQ_DESC_BYTES;
      const isLast = i + 1 === descs.length;
      view.setBigUint64(at, BigInt.asUintN(64, to), true);
      view.setUint32(at + 8, len, true);
      const all = isLast ? flags : flags | VIRTQ_DESC_F_NEXT;
      view.setUint16(at + 12, isSplit ? all : 0, true);
      view.setUint16(at + 14, isSplit ? next : flags, true);
    }
    this.memory.write(addr, bytes);
    return { addr, len: bytes.length, flags: VIRTQ_DESC_F_INDIRECT };
  }

  /** Adds a chain of these to the ring. */
  add(...descs: HostileDesc[]): void {
    this.ring.add(descs);
  }

  /** Whether the room for an answer is as it was. */
  get isUnwritten(): boolean {
    return this.written.every((byte) => byte === UNWRITTEN);
  }

  /** What now lies in the buffers to write, one after the other. */
  get written(): Uint8Array {
    const parts = this.#writable.map(({ addr, len }) => this.memory.read(addr, len));
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}
