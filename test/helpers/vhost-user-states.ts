// A ring of a vhost-user front-end and what is in its used ring, for tests of when it runs.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import { type FrontEnd, type FrontQueue, u32s } from "#dist/bench/front-end.js";
import { signalEventfd } from "#dist/linux/eventfd.js";
import { deviceAreaBytes } from "#dist/memory/vring.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { eventually, Served } from "./vhost-user.js";
import { FrontDisk } from "./vhost-user-disk.js";
import { loadU16, storeU16 } from "./whole-u16.js";

/** Long enough for a worker that does what it must not, in milliseconds. */
export const QUIET_MS = 30;

/** A queue with what is in its used ring. */
export class Ring {
  readonly front: FrontEnd;
  readonly queue: FrontQueue;
  readonly drive: FrontDisk;

  constructor(front: FrontEnd, index = 0, num = 64) {
    this.front = front;
    this.queue = front.makeQueue(index, num);
    this.drive = new FrontDisk(front, this.queue);
  }

  get usedIdx(): number {
    return loadU16(this.front.shared.view, this.queue.areas.device + 2);
  }

  set usedIdx(value: number) {
    storeU16(this.front.shared.view, this.queue.areas.device + 2, value);
  }

  get usedArea(): number[] {
    const { device } = this.queue.areas;
    const end = device + deviceAreaBytes(this.queue.num);
    return [...this.front.shared.bytes.slice(device, end)];
  }

  /** All but index 0 filled with what no device writes, to see whether one writes at all. */
  mark(): number[] {
    const { device } = this.queue.areas;
    this.front.shared.bytes.fill(0x5a, device, device + deviceAreaBytes(this.queue.num));
    this.usedIdx = 0;
    return this.usedArea;
  }

  /** Makes a request available; `used` follows when the device does it. */
  offer(count = 1): void {
    const requests = Array.from({ length: count }, () => ({ type: VIRTIO_BLK_T_FLUSH }));
    this.drive.offer(requests, false);
  }

  kick(): void {
    signalEventfd(this.queue.kickFd);
  }

  enable(value: number): Promise<void> {
    return this.front.must("SET_VRING_ENABLE", u32s(this.queue.index, value));
  }

  /** Stops it: where it goes on. */
  async stop(): Promise<number> {
    const reply = await this.front.ask("GET_VRING_BASE", u32s(this.queue.index, 0));
    expect(reply.getUint32(0, true)).toBe(this.queue.index);
    return reply.getUint32(4, true);
  }

  async done(count: number): Promise<void> {
    await eventually(() => this.usedIdx === count, `${count} used`);
  }

  /** Takes them back from the used ring. */
  reap(count: number): void {
    expect(this.queue.ring.getBufs(count)).toBe(count);
  }

  async staysAt(count: number): Promise<void> {
    await sleep(QUIET_MS);
    expect(this.usedIdx).toBe(count);
  }

  close(): void {
    this.drive.close();
  }
}

/** One server for all tests of a suite, for each a front-end with memory and a ring of its own. */
export class RingSuite {
  served!: Served;
  front!: FrontEnd;
  ring!: Ring;

  /** Registers what makes and ends them. */
  constructor() {
    beforeAll(async () => {
      this.served = await Served.start();
    });
    beforeEach(async () => {
      this.#end();
      await this.served.idle();
      this.front = await this.served.ready();
      this.ring = new Ring(this.front);
    });
    afterAll(async () => {
      this.#end();
      await this.served?.[Symbol.asyncDispose]();
    });
  }

  #end(): void {
    this.ring?.close();
    this.front?.close();
  }
}
