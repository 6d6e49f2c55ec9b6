// A guest that writes what it likes in its rings, and a program that tells a device odd things of
// where its addresses are: ranges that overlap, of any size, in memory that is not there. Whatever
// happens, the device writes only where it was told that it may. FC_SEED=<number> replays a run;
// FC_TIMES=<number> is how many steps it has.

import { describe, expect, onTestFinished, test } from "vitest";
import { iotlbInvalidate, iotlbUpdate } from "#dist/vhost/ioctl/iotlb-front.js";
import { Random } from "../../fuzz/random.js";
import { until } from "../../helpers/devices.js";
import { refusalOf } from "../../helpers/ioctl.js";
import { IotlbRig, RUNS } from "../../helpers/iotlb-rig.js";
import { seedOf } from "../../helpers/seed.js";
import { PAGE } from "../../helpers/viommu.js";

const SEED = seedOf("iotlb hostile");
const STEPS = Number(process.env.FC_TIMES ?? 4000);

const PAGES = 6;
const READABLE = 1;
/** Offsets in a ring's page. */
const AVAIL = 0x100;
const USED = 0x200;

class Hostile {
  readonly rig: IotlbRig;
  /** Linear addresses: what the device may write, read, and never heard of. */
  readonly writable: number[];
  readonly readable: number[];
  readonly unheard: number[];
  /** The device's own memory, where programs can't be. */
  readonly own: number;
  /** Steps after which something had been written. */
  writeCount = 0;
  #before: Buffer = Buffer.alloc(0);
  readonly #base = 0x1000_0000n;

  constructor(
    kind: "net" | "vsock",
    readonly run: (typeof RUNS)[number],
    readonly random: Random,
  ) {
    this.rig = new IotlbRig(kind, random, { isStarted: false, num: 8, run });
    const { shared } = this.rig.lab;
    const pages = () => Array.from({ length: PAGES }, () => shared.allocGuest(PAGE, PAGE));
    [this.writable, this.readable, this.unheard] = [pages(), pages(), pages()];
    this.own = shared.allocHost(PAGE, PAGE);
    for (const at of [...this.writable, ...this.readable, ...this.unheard, this.own]) {
      for (let i = 0; i < PAGE; i++) shared.bytes[at + i] = random.below(256);
    }
  }

  /** An address of the device's, of few. */
  iova(): bigint {
    return this.#base + BigInt(this.random.below(8 * PAGE));
  }

  #user(): { uaddr: bigint; perm: number; room: number } {
    const { random } = this;
    const offset = random.pick([0, 0, random.below(PAGE)]);
    const room = PAGE - offset;
    const at = (pages: readonly number[], perm: number) => ({
      ...{ uaddr: BigInt(random.pick(pages) + offset), perm, room },
    });
    const memory = this.rig.lab.memory.buffer.byteLength;
    return random.pick([
      () => at(this.writable, random.pick([1, 2, 3, 3])),
      () => at(this.writable, 3),
      () => at(this.readable, READABLE),
      () => at(this.unheard, 0),
      () => at([this.own], 3),
      () => ({ uaddr: BigInt(memory - 8), perm: 3, room: PAGE }),
      () => ({ uaddr: 2n ** 40n, perm: 3, room: 2 ** 20 }),
    ])();
  }

  tell(): void {
    const { random, rig } = this;
    const { uaddr, perm, room } = this.#user();
    const size = BigInt(random.pick([room, room, random.between(1, room)]));
    const iova = random.once(3) ? this.iova() : this.iova() & ~0xfffn;
    const { owner } = rig.lab;
    if (random.once(12)) void iotlbInvalidate(owner, rig.device.fd, { iova, size });
    else iotlbUpdate(owner, rig.device.fd, { iova, size, uaddr, perm });
  }

  /** The guest writes: a descriptor, a head, an index, or anything anywhere. */
  scribble(): void {
    const { random } = this;
    const { view } = this.rig.lab.shared;
    const page = random.pick(this.writable.slice(0, 2)); // where rings are
    const slot = random.below(8);
    const desc = page + 16 * slot;
    const index = page + AVAIL + 2;
    random.pick([
      () => {
        view.setBigUint64(desc, this.iova(), true);
        view.setUint32(desc + 8, random.pick([1, 16, 44, 64, 600, 20_000, 2 ** 31]), true);
        view.setUint16(desc + 12, random.pick([0, 2, 0, 2, random.below(8)]), true);
        view.setUint16(desc + 14, random.below(9), true);
      },
      () => view.setUint16(page + AVAIL + 4 + 2 * slot, random.below(9), true),
      () => view.setUint16(index, view.getUint16(index, true) + random.below(3), true),
      () => view.setUint8(random.pick(this.writable) + random.below(PAGE), random.below(256)),
      () => view.setUint8(random.pick(this.readable) + random.below(PAGE), random.below(256)),
    ])();
  }

  /** The rings begin again, with all that they need, and what is said of buffers is odd. */
  async setUp(): Promise<void> {
    const { rig, random } = this;
    const { owner } = rig.lab;
    await this.stop();
    void iotlbInvalidate(owner, rig.device.fd, { iova: 0n, size: 2n ** 64n - 1n });
    for (const index of [0, 1]) {
      const iova = this.#base + BigInt(index * PAGE);
      const page = this.writable[index] as number;
      const size = BigInt(random.once(8) ? random.between(1, PAGE) : PAGE);
      iotlbUpdate(owner, rig.device.fd, { iova, size, uaddr: BigInt(page) });
      const areas = { avail_user_addr: iova + BigInt(AVAIL), used_user_addr: iova + BigInt(USED) };
      rig.must("VHOST_SET_VRING_ADDR", { index, desc_user_addr: iova, ...areas });
      const num = rig.lab.shared.view.getUint16(page + AVAIL + 2, true);
      rig.must("VHOST_SET_VRING_BASE", { index, num });
    }
    for (let i = random.below(12); i > 0; i--) this.tell();
    rig.start();
    await rig.idle();
  }

  async stop(): Promise<void> {
    const { rig } = this;
    if (rig.kind === "vsock") rig.must("VHOST_VSOCK_SET_RUNNING", { value: 0 });
    else for (const index of [0, 1]) rig.must("VHOST_NET_SET_BACKEND", { index, fd: -1 });
    await rig.idle();
  }

  async act(): Promise<void> {
    const { random, rig } = this;
    const { file } = rig.device;
    const acts = [
      () => this.tell(),
      () => this.tell(),
      () => this.scribble(),
      () => this.scribble(),
      () => this.scribble(),
      () => rig.kick(random.below(2) as 0 | 1),
      () => rig.kick(random.below(2) as 0 | 1),
      () => rig.tap.receive(new Uint8Array(random.pick([14, 60, 6000])).fill(0xee)),
      () => refusalOf(() => file.read(new Uint8Array(72), true)),
    ];
    if (random.once(40)) await this.setUp();
    random.pick(acts)();
  }

  remember(): void {
    this.#before = this.#protected();
  }

  #protected(): Buffer {
    const { bytes } = this.rig.lab.shared;
    const all = [...this.readable, ...this.unheard, this.own];
    return Buffer.concat(all.map((at) => bytes.slice(at, at + PAGE)));
  }

  /** The workers work, which ends, and have written nothing that they may not. */
  async work(what: string): Promise<void> {
    const { bytes } = this.rig.lab.shared;
    const all = () => Buffer.concat(this.writable.map((at) => bytes.slice(at, at + PAGE)));
    const before = all();
    const { file } = this.rig.device;
    for (let left = 3000; file.runPending(); left--) expect(left, what).toBeGreaterThan(0);
    if (this.run === "thread" && this.random.once(4)) await file.state.workers.turnsOver();
    expect(this.#protected().equals(this.#before), what).toBe(true);
    if (!all().equals(before)) this.writeCount++;
  }
}

const KINDS = ["net", "vsock"] as const;

describe.each(RUNS)("a worker: %s", (run) => {
  test.each(KINDS)(`vhost-%s, FC_SEED=${SEED}`, async (kind) => {
    const random = new Random(SEED);
    const hostile = new Hostile(kind, run, random);
    const { rig } = hostile;
    onTestFinished(() => rig.close());
    for (let step = 0; step < STEPS; step++) {
      await hostile.act();
      hostile.remember();
      await hostile.work(`step ${step}`);
      const { misses, table } = rig.device.file.state.iotlb;
      expect(misses.unreadCount + misses.pendingCount).toBeLessThan(1100);
      expect(table?.size).toBeLessThanOrEqual(2048);
    }
    expect(hostile.writeCount).toBeGreaterThan(run === "inline" ? STEPS / 400 : 0);
    void iotlbInvalidate(rig.lab.owner, rig.device.fd, { iova: 0n, size: 2n ** 64n - 1n });
    await hostile.stop();
    while (rig.tap.peek()) rig.tap.drop();
    rig.wire.length = 0;
    for (const [index, ring] of rig.rings.entries()) {
      rig.must("VHOST_SET_VRING_ADDR", { index, ...ring.addresses });
      rig.must("VHOST_SET_VRING_BASE", { index, num: 0 });
      rig.iommu.tell(ring.used & ~BigInt(PAGE - 1));
    }
    expect(new Set(rig.start())).toEqual(new Set(["OK"]));
    await rig.idle();
    rig.count(1, "err");
    rig.send(0, new Uint8Array(72)); // a frame, or a packet from a CID that is nobody's
    for (const page of rig.iommu.pages) rig.iommu.tell(page);
    rig.kick(1);
    while (rig.device.file.runPending());
    await until(() => rig.rings[1].usedIdx !== 0);
    expect([rig.rings[1].usedIdx, rig.count(1, "err")]).toEqual([1, 0]);
  });
});
