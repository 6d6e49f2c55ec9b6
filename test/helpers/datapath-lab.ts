// A transmit queue of a vsock device, laid out byte by byte, and what can be seen of it: the words
// in which the scenarios of a real kernel's data path are told. What is behind it differs.

import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
} from "#dist/spec/virtio-ring.js";
import { VIRTIO_VSOCK_HEADER_BYTES } from "#dist/spec/virtio-vsock.js";
import type { RawDesc, RawRing } from "./raw-ring.js";
import type { RingShape } from "./ring-fixture.js";

/** Values by the names of the records. */
export type Seen = Record<string, string | number>;

/** A ring's shape. */
export type LabShape = Partial<RingShape> & {
  /** Index both sides begin at. */
  base?: number;
  /** Pages of memory, where there is nothing else in it. */
  pages?: number;
  /** Buffers of 512 bytes in the other queue. Default 4. */
  rxBuffers?: number;
  /** Whose the packets say they are. Default: the guest's, so that they are answered. */
  srcCid?: number;
};

/** The ring, and where the guest's data lies: linear address. */
export type LabRing = RawRing & { readonly data: number };

/** What can be seen after a kick. */
export interface Signs {
  errors: number;
  calls: number;
}

/** A ring that the kernel would work on, and a device behind it. */
export abstract class Lab {
  abstract readonly f: LabRing;
  readonly seen: Seen = {};

  /** The next entry that the device pops. */
  abstract get lastAvail(): number;

  /** Guest address of a linear one. */
  abstract guestOf(linear: number): bigint;

  /** Guest address after the last byte of the first region. */
  abstract get regionEnd(): bigint;

  /** Writes a packet that is answered, where there is something that reads it. */
  abstract putPacket(address: bigint): void;

  /** Kicks, and waits for what comes of it. */
  abstract kickDevice(): Promise<Signs>;

  /** Stops the ring. */
  abstract stop(): Promise<void>;

  /** Starts it again. */
  abstract start(position: number): Promise<void>;

  /** What else can be seen, by name. */
  abstract more(name: string): Seen;

  /** A device-readable packet, or a piece of it: bytes `from` to `to` of the header. */
  packet({ from = 0, to = VIRTIO_VSOCK_HEADER_BYTES, ...more }: PacketPiece = {}): RawDesc {
    return { addr: this.guestOf(this.f.data + 1024 + from), len: to - from, flags: 0, ...more };
  }

  /** Writes the indirect table that lies at the data's first byte. */
  table(...entries: RawDesc[]): void {
    entries.forEach((entry, i) => {
      this.f.writeDescAt(this.f.data + 16 * i, entry);
    });
  }

  /** Makes descriptor 0 name that table, as `len` bytes. */
  indirect(len: number, more: Partial<RawDesc> = {}): void {
    this.f.writeDesc(0, { addr: this.guestOf(this.f.data), len, flags: INDIRECT, ...more });
  }

  /** Kicks; what can be seen then is noted, each name after `name`. */
  async kick(name: string): Promise<void> {
    const { errors, calls } = await this.kickDevice();
    Object.assign(this.seen, {
      [`${name}_used_idx`]: this.f.usedIdx,
      [`${name}_last_avail`]: this.lastAvail,
      [`${name}_err_signals`]: errors,
      [`${name}_err`]: errors,
      [`${name}_call_signals`]: calls,
      [`${name}_call`]: calls,
      [`${name}_used_flags`]: this.f.usedFlags,
      [`${name}_avail_event`]: this.f.availEvent,
      ...this.more(name),
    });
  }

  /** Offers a packet in descriptor `head` and kicks. */
  async send(name: string, head = 0, usedEvent?: number): Promise<void> {
    if (usedEvent !== undefined) this.f.usedEvent = usedEvent;
    this.f.offer(head);
    await this.kick(name);
  }

  /** What most records do once the ring is written: kick, kick again, repair, one more. */
  async kickAndRepair(): Promise<void> {
    await this.kick("kick1");
    await this.kick("kick2");
    const addr = this.guestOf(this.f.data + 2048);
    this.putPacket(addr);
    this.f.writeDesc(2, this.packet({ addr }));
    for (let slot = 0; slot < this.f.num; slot++) this.f.setAvailHead(slot, 2);
    await this.kick("repaired");
    await this.send("next", 2);
    this.seen.used0_id = this.f.usedElem(0)[0];
  }

  /** Writes a chain of all of the packet, a descriptor for each length. */
  chain(...lengths: number[]): void {
    let from = 0;
    for (const [i, length] of lengths.entries()) {
      const isLast = i === lengths.length - 1;
      const piece = { from, to: from + length, flags: isLast ? 0 : NEXT, next: isLast ? 0 : i + 1 };
      this.f.writeDesc(i, this.packet(piece));
      from += length;
    }
  }
}

type PacketPiece = Partial<RawDesc> & { from?: number; to?: number };
