// A vhost-user front-end without a driver: it writes its ring by hand, as a hostile one would.

import type { FrontEnd, FrontQueue } from "#dist/bench/front-end.js";
import { signalEventfd } from "#dist/linux/eventfd.js";
import { libc } from "#dist/linux/libc.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
import { VIRTIO_BLK_T_GET_ID } from "#dist/spec/virtio-blk.js";
import { VIRTQ_DESC_F_NEXT as NEXT, VIRTQ_DESC_F_WRITE as WRITE } from "#dist/spec/virtio-ring.js";
import { blkHeader } from "./blk-raw.js";
import { RawRing } from "./raw-ring.js";
import { eventually } from "./vhost-user.js";

/** What is in an eventfd; it is taken out. */
export function takeCount(fd: number): bigint {
  const count = new BigUint64Array(1);
  return libc().read(fd, count, 8) === 8 ? (count[0] as bigint) : 0n;
}

/** A queue whose areas are written by hand, with some memory for buffers behind it. */
export class RawQueue extends RawRing {
  readonly front: FrontEnd;
  readonly queue: FrontQueue;
  readonly num: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  /** Linear address of 64 KiB for buffers and tables. */
  readonly data: number;
  readonly #guestBase: bigint;
  #seen = 0;

  /** `guestBase`: guest address of the front-end's memory, when it is not the usual one. */
  constructor(front: FrontEnd, index = 0, num = 8, guestBase = GUEST_BASE) {
    super(front.shared.memory);
    this.front = front;
    this.num = num;
    this.#guestBase = guestBase;
    this.queue = front.makeQueue(index, num);
    const { desc, driver, device } = this.queue.areas;
    this.desc = desc;
    this.avail = driver;
    this.used = device;
    this.data = front.shared.allocGuest(65536, 4096);
  }

  /** Guest address of a linear one. */
  guest(linear: number): bigint {
    return this.#guestBase + BigInt(linear - this.front.shared.guestStart);
  }

  /** All areas empty, as before the driver began. */
  clear(): void {
    const { bytes } = this.front.shared;
    bytes.fill(0, this.desc, this.desc + descBytes(this.num));
    bytes.fill(0, this.avail, this.avail + driverAreaBytes(this.num));
    bytes.fill(0, this.used, this.used + deviceAreaBytes(this.num));
    this.#seen = 0;
  }

  kick(): void {
    signalEventfd(this.queue.kickFd);
  }

  /** The next used element. */
  async next(): Promise<[id: number, length: number]> {
    await eventually(() => this.usedIdx !== this.#seen, "a used element");
    const element = this.usedElem(this.#seen % this.num);
    this.#seen = (this.#seen + 1) & 0xffff;
    return element;
  }

  /** Offers a good request at the last three descriptors, which must come back well. */
  async isServed(): Promise<boolean> {
    const first = this.num - 3;
    const { bytes } = this.front.shared;
    const at = this.data + 32768;
    bytes.set(blkHeader(VIRTIO_BLK_T_GET_ID), at);
    bytes.fill(0xff, at + 64, at + 128);
    const pieces: [number, number, number][] = [
      [at, 16, NEXT],
      [at + 64, 20, WRITE | NEXT],
      [at + 120, 1, WRITE],
    ];
    for (const [i, [address, len, flags]] of pieces.entries()) {
      const next = flags & NEXT ? first + i + 1 : 0;
      this.writeDesc(first + i, { addr: this.guest(address), len, flags, next });
    }
    this.offer(first);
    this.kick();
    const [id, length] = await this.next();
    return id === first && length === 21 && bytes[at + 120] === 0;
  }
}
