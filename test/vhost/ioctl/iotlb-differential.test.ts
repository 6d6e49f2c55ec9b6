// Two devices with the same hostile driver: one whose addresses are the program's, by the ring in
// WASM, one that is told that they are, by the ring that translates. Memory, calls, errors and
// positions are equal at each step. FC_SEED=<number> replays a run; FC_TIMES=<number> is its steps.

import { expect, test } from "vitest";
import type { EventFd } from "#dist/kernel/eventfd.js";
import { iotlbUpdate } from "#dist/vhost/ioctl/iotlb-front.js";
import { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import { Random } from "../../fuzz/random.js";
import { IoctlLab } from "../../helpers/ioctl.js";
import { ACCESS_PLATFORM } from "../../helpers/raw-guest.js";
import { seedOf } from "../../helpers/seed.js";

const SEED = seedOf("iotlb differential");
const STEPS = Number(process.env.FC_TIMES ?? 250);

const NUM = 8;
const PLACE_BYTES = 1 << 15;
/** Offsets in the place: a page for each area of each ring, then tables, then buffers. */
const AREAS = [0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000];
const TABLES = 0x6000;
const BUFFERS = 0x7000;
const NET_PACKET = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
/** A REQUEST from CID 42, which nobody listens for. */
const VSOCK_PACKET = [
  ...[42, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0],
  ...[0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

class Side {
  readonly lab = new IoctlLab(1 << 20);
  readonly device;
  readonly place: number;
  readonly view: DataView;
  readonly sent: string[] = [];
  readonly tap = new NetBackendFile(
    () => {},
    (frame) => this.sent.push(frame.join()),
  );
  readonly #events: EventFd[][];
  readonly #features: bigint;
  isTranslated = false;

  constructor(
    readonly kind: "net" | "vsock",
    features: bigint,
  ) {
    const { lab } = this;
    this.#features = features;
    this.device = lab.open(kind);
    this.place = lab.shared.allocGuest(PLACE_BYTES, 4096);
    this.view = new DataView(lab.memory.buffer, this.place, PLACE_BYTES);
    this.must("VHOST_SET_OWNER");
    this.must("VHOST_SET_FEATURES", { value: features });
    const start = BigInt(lab.shared.guestStart);
    const region = { guest_phys_addr: start, memory_size: BigInt(lab.shared.guestBytes) };
    this.must("VHOST_SET_MEM_TABLE", { regions: [{ ...region, userspace_addr: start }] });
    this.#events = [0, 1].map((index) => this.#setUp(index));
  }

  #setUp(index: number): EventFd[] {
    const [desc = 0n, avail = 0n, used = 0n] = AREAS.slice(3 * index, 3 * index + 3).map((offset) =>
      BigInt(this.place + offset),
    );
    this.must("VHOST_SET_VRING_NUM", { index, num: NUM });
    this.must("VHOST_SET_VRING_ADDR", {
      ...{ index, desc_user_addr: desc, avail_user_addr: avail, used_user_addr: used },
    });
    return ["KICK", "CALL", "ERR"].map((which) => {
      const { fd, file } = this.lab.eventfd();
      this.must(`VHOST_SET_VRING_${which}`, { index, fd });
      return file;
    });
  }

  must(name: string, values = {}): void {
    const { lab, device } = this;
    expect([name, lab.call(lab.owner, device.fd, name, values)]).toEqual([name, "OK"]);
  }

  start(isStart: boolean): void {
    if (this.kind === "vsock") {
      this.must("VHOST_VSOCK_SET_GUEST_CID", { value: 42n });
      this.must("VHOST_VSOCK_SET_RUNNING", { value: isStart ? 1 : 0 });
      return;
    }
    const fd = isStart ? this.lab.install(this.tap) : -1;
    if (isStart) this.tap.count++;
    for (const index of [0, 1]) this.must("VHOST_NET_SET_BACKEND", { index, fd });
  }

  restart(): void {
    this.start(false);
    this.start(true);
    this.work();
  }

  /** The program's memory is where it is; nothing may be done elsewhere. */
  translate(random: Random): void {
    const { lab, device } = this;
    this.must("VHOST_SET_FEATURES", { value: this.#features | ACCESS_PLATFORM });
    this.isTranslated = true;
    const start = BigInt(lab.shared.guestStart);
    const end = start + BigInt(lab.shared.guestBytes);
    const tell = (iova: bigint, last: bigint, uaddr: bigint, perm: number) =>
      iotlbUpdate(lab.owner, device.fd, { iova, size: last - iova + 1n, uaddr, perm });
    tell(0n, start - 1n, 0n, 0);
    tell(end, 2n ** 64n - 1n, 0n, 0);
    for (let at = start; at < end; ) {
      const last = random.once(3) ? at + BigInt(2 * random.between(0x800, 0x4000)) - 1n : end;
      tell(at, last < end ? last : end - 1n, at, 3);
      at = last + 1n;
    }
  }

  kick(index: number): void {
    this.#events[index]?.[0]?.write(1n);
  }

  work(): void {
    for (let left = 100_000; this.device.file.runPending(); left--) expect(left).toBeGreaterThan(0);
  }

  /** All that a program sees of it. */
  seen() {
    const taken = (file?: EventFd) => (file && file.value > 0n ? Number(file.read()) : 0);
    const { state } = this.device.file;
    return {
      events: this.#events.map(([, call, err]) => [taken(call), taken(err)]),
      positions: state.vqs.map((vq) => vq.position(state.features)),
      packets: this.device.packets(),
      sent: this.sent,
      memory: Buffer.from(this.lab.shared.bytes.slice(this.place, this.place + PLACE_BYTES)),
    };
  }
}

/** A write that both see. */
type Write = (view: DataView, place: number) => void;

function descWrite(random: Random, at: number): Write {
  const offset = random.pick([
    BUFFERS,
    BUFFERS + random.below(200),
    TABLES,
    AREAS[random.below(6)],
  ]);
  const far = random.pick([64, 2 ** 21, 2 ** 40]);
  const isFar = random.once(20);
  const len = random.pick([0, 16, 19, 44, 48, 64, 64, 100, 512, 16 * random.below(20)]);
  const flags = random.pick([0, 0, 2, 2, 1, 3, 4, 5, 6, random.below(16)]);
  const next = random.pick([0, 1, 2, 3, 7, 8, random.below(65536)]);
  return (view, place) => {
    view.setBigUint64(at, BigInt(isFar ? far : place + (offset ?? 0)), true);
    view.setUint32(at + 8, len, true);
    view.setUint16(at + 12, flags, true);
    view.setUint16(at + 14, next, true);
  };
}

function randomWrite(random: Random): Write {
  const ring = random.below(2);
  const [desc = 0, avail = 0] = AREAS.slice(3 * ring);
  const slot = random.below(NUM);
  const value = random.pick([0, 1, 2, random.below(NUM), random.below(65536)]);
  const [head, isOdd] = [random.below(NUM), random.once(10)];
  const step = random.pick([1, 1, 2, 3, NUM]);
  const u16 = (at: number, next: (old: number) => number): Write => {
    return (view) => view.setUint16(at, next(view.getUint16(at, true)) & 0xffff, true);
  };
  return random.pick<() => Write>([
    () => descWrite(random, desc + 16 * slot),
    () => descWrite(random, desc + 16 * slot),
    () => descWrite(random, TABLES + 16 * random.below(64)),
    () => u16(avail + 4 + 2 * slot, () => (isOdd ? value : head)),
    () => u16(avail + 2, (old) => old + step),
    () => u16(avail + 2, (old) => old + (isOdd ? 2 * NUM : 1)), // never back: 2^16 entries

    () => u16(avail, () => head % 3),
    () => u16(avail + 4 + 2 * NUM, (old) => (head < 3 ? value : old + 1)),
  ])();
}

/** What makes the ring good again, so that more happens than errors. */
const repair =
  (kind: "net" | "vsock"): Write =>
  (view, place) => {
    const packet = kind === "net" ? NET_PACKET : VSOCK_PACKET;
    for (const [i, byte] of packet.entries()) view.setUint8(BUFFERS + i, byte);
    for (let i = 0; i < NUM; i++) {
      for (const [at, flags] of [
        [AREAS[0], 2],
        [AREAS[3], 0],
      ] as const) {
        view.setBigUint64((at ?? 0) + 16 * i, BigInt(place + BUFFERS + (flags ? 0x400 : 0)), true);
        view.setUint32((at ?? 0) + 16 * i + 8, flags ? 512 : kind === "net" ? 19 : 44, true);
        view.setUint32((at ?? 0) + 16 * i + 12, flags, true);
      }
      for (const at of [AREAS[1], AREAS[4]]) view.setUint16((at ?? 0) + 4 + 2 * i, i, true);
    }
  };

const FEATURES = [0n, 1n << 29n, 1n << 28n, 1n << 24n, (1n << 24n) | (1n << 29n)];

test.each(["net", "vsock"] as const)(`vhost-%s, FC_SEED=${SEED}`, (kind) => {
  const random = new Random(SEED + kind.length);
  const errors = new Set<number>();
  let packets = 0;
  for (const extra of FEATURES) {
    const features = (1n << 32n) | extra;
    const [plain, other] = [new Side(kind, features), new Side(kind, features)];
    const sides = [plain, other];
    const both = (act: (side: Side) => void) => sides.forEach(act);
    both((side) => side.start(true));
    const began = random.below(STEPS / 20);
    for (let step = 0; step < STEPS; step++) {
      if (step === began) other.translate(random);
      const write = random.once(12) ? repair(kind) : randomWrite(random);
      const index = random.below(2);
      const isKick = random.once(2);
      const frame = random.once(4) ? random.pick([14, 60, 600]) : 0;
      both((side) => {
        write(side.view, side.place);
        if (isKick) side.kick(index);
        if (frame > 0) side.tap.receive(new Uint8Array(frame).fill(step));
        side.work();
      });
      if (random.once(100)) both((side) => side.restart());
      const [expected, actual] = [plain.seen(), other.seen()];
      const isSame = expected.memory.equals(actual.memory);
      const where = `features ${extra}, step ${step}`;
      if (!isSame) expect(actual.memory, where).toEqual(expected.memory);
      expect({ ...actual, memory: 0 }, where).toEqual({ ...expected, memory: 0 });
      for (const [, count = 0] of expected.events) errors.add(count);
    }
    expect(other.device.file.state.iotlb.misses.unreadCount).toBe(0);
    packets += plain.device.packets();
  }
  expect(packets).toBeGreaterThan(STEPS / 5);
  expect([...errors]).toEqual(expect.arrayContaining([0, 1]));
});
