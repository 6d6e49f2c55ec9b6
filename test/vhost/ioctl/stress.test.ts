// Random ioctls, valid and not, by random callers, against devices under load: rings are kicked,
// scribbled over, moved, stopped; workers are made and killed, the owner is stopped and goes on. A
// refused call changes nothing, no call hangs, and afterwards the device works as if new.
// FC_SEED=<number> replays a run; FC_TIMES=<number> is how many steps it has.

import { describe, expect, test } from "vitest";
import type { EventFd } from "#dist/kernel/eventfd.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { VHOST_REQUESTS, type VhostRequest } from "#dist/spec/vhost.js";
import { encodeArg, type IoctlValues, requestOf } from "#dist/vhost/ioctl/front.js";
import { beginIoctl } from "#dist/vhost/ioctl/ioctl.js";
import { iotlbInvalidate, iotlbUpdate } from "#dist/vhost/ioctl/iotlb-front.js";
import { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import type { VhostKind } from "#dist/vhost/ioctl/state.js";
import { Ring, ringBytes } from "../../conformance/machine/ring.js";
import { IoctlLab, KERNEL_ADDRESS, KINDS, QUEUES, refusalOf } from "../../helpers/ioctl.js";
import { seedOf } from "../../helpers/seed.js";

/** More than chains that two indices can promise. */
const TURNS_MAX = 2 * 0x1_0000 + 2000;
const SEED = seedOf("ioctl stress");
const STEPS = Number(process.env.FC_TIMES ?? 1500);
const [NUM, CID] = [8, 42];
const REQUEST_BYTES = 44;
const BUFFER_BYTES = 512;

/** A number from 0 up to 1, again the same from the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What a refused call may change all the same, as in Linux. */
const CHANGES: Record<string, string[]> = {
  VHOST_SET_LOG_BASE: ["EFAULT"], // rings that can have the log there have it
  VHOST_VSOCK_SET_RUNNING: ["EFAULT", "ENOMEM"], // none runs any more
  VHOST_NET_SET_BACKEND: ["EFAULT"], // somebody is asked where the ring is
  VHOST_NEW_WORKER: ["EFAULT"], // it is there, its number is not told
};

/** What any of them may answer. */
const ERRNOS = [
  ...["OK", "it waits", "EPERM", "EFAULT", "ENOBUFS", "ENOTTY", "EBUSY", "EINVAL", "EOPNOTSUPP"],
  ...["E2BIG", "EBADF", "ENOMEM", "ENODEV", "EADDRINUSE", "ENOTSOCK"],
];

class Stress {
  readonly lab = new IoctlLab(4 << 20);
  readonly device: ReturnType<IoctlLab["open"]>;
  readonly rings: Ring[];
  readonly #next: () => number;
  readonly #callers;
  readonly #fds: number[];
  /** Kicks have eventfds of their own: a ring that calls by its kick never comes to an end. */
  readonly #kickFds: number[];
  readonly #tap: NetBackendFile;
  readonly #backendFd: number;
  readonly #buffers: number;
  /** How often each errno came. */
  readonly results: Record<string, number> = {};
  #isStopped = false;

  constructor(
    readonly kind: VhostKind,
    seed: number,
  ) {
    const { lab } = this;
    this.#next = random(seed);
    this.device = lab.open(kind);
    this.rings = [0, 1].map(() => this.freshRing());
    this.#tap = new NetBackendFile(() => {});
    this.#backendFd = lab.install(this.#tap);
    this.#buffers = lab.shared.allocGuest(NUM * BUFFER_BYTES, 4096);
    const others = [this.#backendFd, this.device.fd, -1, -2, 999];
    const install = ({ file }: { file: EventFd }) => {
      file.count++; // the test's own
      return lab.install(file);
    };
    this.#kickFds = [...this.rings.map(({ kick }) => install(kick)), ...others];
    this.#fds = [
      ...this.rings.flatMap(({ call, err }) => [install(call), install(err)]),
      ...others,
    ];
    this.#callers = [lab.owner, lab.owner, lab.owner, lab.kin("sharer"), lab.kin("child")];
  }

  freshRing(): Ring {
    const address = this.lab.shared.allocGuest(ringBytes(NUM), 4096);
    return new Ring(this.lab.memory, { num: NUM, address });
  }

  below(n: number): number {
    return Math.floor(this.#next() * n);
  }

  pick<T>(...list: T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** A value for a field, good as often as not. */
  #field(name: string): number | bigint {
    const ring = this.pick(...this.rings);
    const odd = BigInt(this.pick(0, 0, 0, 1, 2, 4096));
    if (name === "index") return this.pick(0, 1, 0, 1, 2, QUEUES[this.kind], 0xffff_ffff);
    if (name === "num") return this.pick(NUM, NUM, 1, 3, 0, 16, 32768, 65535, 0xffff_ffff);
    if (name === "fd") return this.pick(...this.#fds);
    if (name === "worker_id") return this.below(4);
    if (name === "flags") return this.pick(0, 0, 0, 1, 2);
    if (name === "desc_user_addr") return this.pick(BigInt(ring.desc) + odd, KERNEL_ADDRESS, 0n);
    if (name === "avail_user_addr") return BigInt(ring.avail) + odd;
    if (name === "used_user_addr") return this.pick(BigInt(ring.used) + odd, BigInt(ring.used));
    if (name === "log_guest_addr") return this.pick(0n, 4096n, 2n ** 63n);
    return this.pick(0, 1, -1, 2, CID, 7);
  }

  #values({ name, struct }: VhostRequest): IoctlValues {
    if (name === "VHOST_SET_MEM_TABLE") return { regions: this.#regions() };
    if (/_FEATURES$/.test(name)) {
      const bits = [24n, 26n, 28n, 29n, 32n, 33n, 50n].filter(() => this.below(4) === 0);
      return { value: bits.reduce((mask, bit) => mask | (1n << bit), 0n) };
    }
    if (name === "VHOST_SET_LOG_BASE") {
      return { value: this.pick(0n, BigInt(this.lab.scratch), KERNEL_ADDRESS) };
    }
    if (name === "VHOST_SET_VRING_KICK") {
      return { index: this.#field("index"), fd: this.pick(...this.#kickFds) };
    }
    const fields = Object.keys(struct?.fields ?? {}).map((one) => [one, this.#field(one)]);
    if (name === "VHOST_SET_LOG_FD") return { value: this.#field("fd") };
    return Object.fromEntries(fields);
  }

  #regions() {
    const whole = this.wholeMemory();
    const odd = { guest_phys_addr: 0n, memory_size: 0n, userspace_addr: 0n };
    const past = { ...whole, guest_phys_addr: 2n ** 64n - 4096n };
    const kernel = { ...whole, userspace_addr: KERNEL_ADDRESS };
    return this.pick([whole], [whole], [whole, whole], [], [odd], [past], [kernel]);
  }

  wholeMemory() {
    const { guestStart, guestBytes } = this.lab.shared;
    const start = BigInt(guestStart);
    return { guest_phys_addr: start, memory_size: BigInt(guestBytes), userspace_addr: start };
  }

  /** Sets all of it up as it should be, by the owner; on fresh rings, unless they are given. */
  setUp(rings = this.rings): string[] {
    const { lab, device, kind } = this;
    const call = (name: string, values: IoctlValues = {}) =>
      `${name} ${lab.call(lab.owner, device.fd, name, values)}`;
    this.#translate();
    const results = [
      call("VHOST_SET_FEATURES", { value: 1n << 32n }),
      call("VHOST_SET_MEM_TABLE", { regions: [this.wholeMemory()] }),
      ...(kind === "vsock" ? [call("VHOST_VSOCK_SET_RUNNING", { value: 0 })] : []),
      ...(kind === "vsock" ? [call("VHOST_VSOCK_SET_GUEST_CID", { value: BigInt(CID) })] : []),
    ];
    for (const [index, ring] of rings.entries()) {
      if (kind === "net") results.push(call("VHOST_NET_SET_BACKEND", { index, fd: -1 }));
      const addresses = { desc_user_addr: BigInt(ring.desc), avail_user_addr: BigInt(ring.avail) };
      results.push(
        call("VHOST_SET_VRING_NUM", { index, num: NUM }),
        call("VHOST_SET_VRING_BASE", { index, num: ring.availIdx }),
        call("VHOST_SET_VRING_ADDR", { index, ...addresses, used_user_addr: BigInt(ring.used) }),
        ...(["kick", "call", "err"] as const).map((which) => {
          const fd = this.#fdOf(ring[which].file);
          return call(`VHOST_SET_VRING_${which.toUpperCase()}`, { index, fd });
        }),
      );
      const fd = this.#backendFd;
      if (kind === "net") results.push(call("VHOST_NET_SET_BACKEND", { index, fd }));
    }
    if (kind === "vsock") results.push(call("VHOST_VSOCK_SET_RUNNING", { value: 1 }));
    return results.filter((result) => !result.endsWith(" OK"));
  }

  /** Where the device has addresses of its own, as it may for good, they are the program's. */
  #translate(): void {
    const { lab, device } = this;
    if (device.file.state.iotlb.table === undefined) return;
    const { guest_phys_addr: iova, memory_size: size } = this.wholeMemory();
    void iotlbInvalidate(lab.owner, device.fd, { iova: 0n, size: 2n ** 64n - 1n });
    iotlbUpdate(lab.owner, device.fd, { iova, size, uaddr: iova });
  }

  /** A question is read, or a message is written, good or bad. */
  #talk(): void {
    const { lab, device } = this;
    const { iotlb } = device.file.state;
    const message = new Uint8Array(72);
    const write = () => device.file.write(message);
    const isRead = iotlb.misses.unreadCount > 0 && this.below(2) === 0;
    if (isRead) device.file.read(message, true);
    else for (let left = this.below(4); left > 0; left--) message[this.below(34)] = this.below(256);
    if (!isRead && this.below(2) === 0) message.set([this.pick(1, 2)]);
    message[33] = this.pick(2, 2, 3, this.below(256));
    const before = lab.snapshot(device.file.state);
    if (refusalOf(write) !== undefined) expect(lab.snapshot(device.file.state)).toEqual(before);
  }

  /** The owner's number for an eventfd, which it gets if it has none. */
  #fdOf(file: EventFd): number {
    const fds = this.lab.owner.files?.fds ?? new Map();
    for (const [fd, one] of fds) if (one === file) return fd;
    return this.lab.install(file);
  }

  /** A request in each of the rings' descriptors, and a buffer for each answer. */
  fill([rx, tx]: Ring[]): void {
    if (!rx || !tx) return;
    tx.view.setBigUint64(tx.packet, BigInt(CID), true);
    tx.view.setBigUint64(tx.packet + 8, 2n, true);
    tx.view.setUint32(tx.packet + 24, 0, true);
    tx.view.setUint16(tx.packet + 30, 1, true); // REQUEST, which nobody listens for
    for (let i = 0; i < NUM; i++) {
      rx.setDesc(i, { addr: this.#buffers + i * BUFFER_BYTES, len: BUFFER_BYTES, flags: 2 });
      tx.setDesc(i, { addr: tx.packet, len: REQUEST_BYTES });
      rx.setSlot(i, i);
      tx.setSlot(i, i);
    }
  }

  /** One ioctl: what came of it. */
  ioctl(): void {
    const { lab, device } = this;
    const one = this.pick(...VHOST_REQUESTS);
    const task = this.pick(...this.#callers);
    const values = this.#values(one);
    const request = this.below(20) === 0 ? this.below(2 ** 32) : one.request;
    const arg = this.pick(...Array(9).fill(lab.scratch), 0, 64);
    const bytes = encodeArg(one, values);
    if (task.mm) new Uint8Array(task.mm.memory.buffer).set(bytes, lab.scratch);
    this.#drain();
    const before = lab.snapshot(device.file.state);
    const result = lab.raw(task, device.fd, request, BigInt(arg));
    const what = `${one.name} by ${task.comm} ${task.pid}: ${result}`;
    expect(ERRNOS, what).toContain(result);
    this.results[result] = (this.results[result] ?? 0) + 1;
    if (result === "OK" || result === "it waits" || CHANGES[one.name]?.includes(result)) return;
    expect(lab.snapshot(device.file.state), what).toEqual(before);
  }

  /** The workers do what they may, which ends: an index that was refused once is believed then. */
  #drain(): void {
    let left = TURNS_MAX;
    while (this.device.file.runPending()) if (left-- === 0) throw new Error("it does not end");
  }

  /** What a program does besides. */
  disturb(): void {
    const ring = this.pick(...this.rings);
    const words = [ring.desc, ring.avail, ring.used, ring.packet];
    const at = this.pick(...words) + this.below(64);
    const acts = [
      () => ring.view.setUint8(at, this.below(256)),
      () => ring.publish(this.below(NUM)),
      () => ring.publish(this.below(NUM)),
      () => ring.kick.signal(),
      () => ring.kick.signal(),
      () => ring.call.read(),
      () => this.#stopOrGoOn(),
      () => this.load(),
      () => this.#talk(),
      () => this.#tap.receive(new Uint8Array(this.pick(14, 60, 600))),
    ];
    this.pick(...acts)();
    this.#drain();
  }

  /** As good as it gets now: whoever owns it, some of it may be refused. */
  load(): void {
    this.lab.call(this.lab.owner, this.device.fd, "VHOST_SET_OWNER");
    this.setUp();
    this.fill(this.rings);
    for (const ring of this.rings) {
      ring.availIdx += 1 + this.below(NUM);
      ring.kick.signal();
    }
  }

  #stopOrGoOn(): void {
    if (!this.#isStopped && this.below(4) !== 0) return;
    this.lab.kernel.kill(this.lab.owner.pid, this.#isStopped ? SIGNALS.SIGCONT : SIGNALS.SIGSTOP);
    this.#isStopped = !this.#isStopped;
  }

  goOn(): void {
    if (this.#isStopped) this.#stopOrGoOn();
    this.#drain();
  }
}

describe.each(KINDS)("vhost-%s", (kind) => {
  const seed = SEED + KINDS.indexOf(kind);

  test(`under load, FC_SEED=${SEED}`, () => {
    const stress = new Stress(kind, seed);
    const { lab, device } = stress;
    const host = lab.shared.host.freeBytes;
    expect(lab.call(lab.owner, device.fd, "VHOST_SET_OWNER")).toBe("OK");
    let activeCount = 0;
    let ownedCount = 0; // another may own a vhost-net later
    for (let step = 0; step < STEPS; step++) {
      if (stress.below(3) === 0) stress.disturb();
      else stress.ioctl();
      if (device.file.state.vqs[1]?.isActive) activeCount++;
      if (device.file.state.owner.is(lab.owner)) ownedCount++;
    }
    stress.goOn();
    expect(stress.results.OK).toBeGreaterThan(STEPS / 20);
    for (const code of ["EPERM", "EFAULT", "ENOBUFS"]) expect(stress.results).toHaveProperty(code);
    if (kind !== "scsi" && ownedCount > STEPS / 2) {
      expect(activeCount).toBeGreaterThan(STEPS / 50);
      expect(device.packets()).toBeGreaterThan(0);
    }
    lab.kernel.exitGroup(lab.owner, 0);
    expect(device.file.count).toBeGreaterThan(0); // the sharer's and the child's
    for (const task of lab.kernel.tasks()) {
      if (task.comm === "vmm" && task.exitState === 0) lab.kernel.exitGroup(task, 0);
    }
    expect(device.file.count).toBe(0);
    expect(lab.shared.host.freeBytes).toBe(host);
    expect(lab.kernel.tasks().filter(({ comm }) => comm.startsWith("vhost-"))).toEqual([]);
    const eventfds = stress.rings.flatMap(({ kick, call, err }) => [kick, call, err]);
    expect(eventfds.map(({ file }) => file.count)).toEqual(Array(6).fill(1));
  });
});

test(`afterwards vhost-vsock works as if new: nothing is lost, FC_SEED=${SEED}`, () => {
  const stress = new Stress("vsock", SEED);
  const { lab, device } = stress;
  expect(lab.call(lab.owner, device.fd, "VHOST_SET_OWNER")).toBe("OK"); // or another might
  for (let step = 0; step < STEPS; step++) {
    if (stress.below(3) === 0) stress.disturb();
    else stress.ioctl();
  }
  stress.goOn();
  const rings = [0, 1].map(() => stress.freshRing());
  expect(stress.setUp(rings)).toEqual([]);
  stress.fill(rings);
  const [rx, tx] = rings as [Ring, Ring];
  tx.call.read();
  const before = [tx.usedIdx, rx.usedIdx];
  for (let sent = 0; sent < 100; sent++) {
    rx.publish(sent % NUM);
    tx.publish(sent % NUM);
    tx.kick.signal();
    rx.kick.signal();
    while (device.file.runPending());
    expect([sent, tx.usedIdx, rx.usedIdx]).toEqual([sent, sent + 1, sent + 1]);
    expect(rx.usedEntry(sent)).toEqual({ id: sent % NUM, len: REQUEST_BYTES });
  }
  expect(before).toEqual([0, 0]);
  expect([tx.err.read(), rx.err.read(), tx.call.read()]).toEqual([0, 0, 100]);
});

test("a ring that kicks itself by its errors keeps its worker busy, nobody else waits", () => {
  const stress = new Stress("vsock", SEED);
  const { lab, device } = stress;
  const call = (name: string, values: IoctlValues = {}) =>
    expect([name, begin(name, values)]).toEqual([name, true]);
  const [, tx] = stress.rings as [Ring, Ring];
  const fd = lab.install(tx.kick.file);
  const begin = (name: string, values: IoctlValues): boolean => {
    const request = requestOf(name);
    lab.shared.bytes.set(encodeArg(request, values), lab.scratch);
    const { error, isDone } = beginIoctl(
      lab.owner,
      device.fd,
      request.request,
      BigInt(lab.scratch),
    );
    for (let left = 4; !isDone() && left > 0; left--) device.file.runPending();
    return error === undefined && isDone();
  };
  call("VHOST_SET_OWNER");
  call("VHOST_SET_MEM_TABLE", { regions: [stress.wholeMemory()] });
  for (const [index, ring] of stress.rings.entries()) {
    const addresses = { desc_user_addr: BigInt(ring.desc), avail_user_addr: BigInt(ring.avail) };
    call("VHOST_SET_VRING_NUM", { index, num: NUM });
    call("VHOST_SET_VRING_ADDR", { index, ...addresses, used_user_addr: BigInt(ring.used) });
  }
  call("VHOST_SET_VRING_KICK", { index: 1, fd });
  call("VHOST_SET_VRING_ERR", { index: 1, fd });
  call("VHOST_VSOCK_SET_RUNNING", { value: 1 });
  tx.publish(99);
  tx.kick.signal();
  for (let turns = 0; turns < 100; turns++) expect(device.file.runPending()).toBe(true);
  call("VHOST_SET_LOG_FD", { value: -1 }); // it waits for the worker
  call("VHOST_VSOCK_SET_RUNNING", { value: 0 });
  device.file.runPending();
  expect(device.file.runPending()).toBe(false);
});
