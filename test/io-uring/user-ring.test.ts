// io_uring as a program uses it by hand: requests and completions as values, memory to name in
// them, and what is said to whom gives something else than is wanted.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  exitIoWq,
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_WRITE,
  IOSQE_IO_LINK,
  IoUring,
  Kernel,
  openHostFile,
  type Process,
  type Sqe,
  SqPollRing,
} from "#dist/index.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { errno } from "#dist/spec/errno.js";
import { IO_RINGS_CQ_TAIL, IOU_RINGS, IOU_SQES } from "#dist/spec/io-uring.js";
import { rejected, threadCount } from "../helpers/devices.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
let kernel: Kernel;
let vmm: Process;
beforeEach(() => {
  kernel = new Kernel();
  vmm = kernel.spawn({ memoryBytes: 1 << 20 });
});
afterEach(async () => {
  await exitIoWq(vmm);
  await vmm.exit();
});

const memoryOf = ({ task }: Process) => {
  if (task.mm === null) throw new Error("no memory");
  return SharedMemory.of(task.mm.memory);
};

describe.each([
  ["IoUring", IoUring],
  ["SqPollRing", SqPollRing],
] as const)("%s", (_, Ring) => {
  test.each(["wasm", "ts"] as const)("writes and reads a file, %s rings", async (kind) => {
    const fd = openHostFile(vmm, makeFile(new Uint8Array(8192).fill(1)), "r+");
    await using ring = new Ring(kernel, vmm, { entries: 8, kind });
    const [to, from] = [ring.alloc(4096), ring.alloc(8192)];
    to.bytes.fill(9);
    const common = { fd, flags: IOSQE_IO_LINK };
    ring.queue({
      ...common,
      opcode: IORING_OP_WRITE,
      address: to.address,
      length: 4096,
      offset: 4096,
    });
    const userData = 2n ** 64n - 1n;
    ring.queue({ opcode: IORING_OP_READ, fd, address: from.address, length: 8192, userData });
    expect(ring.submit()).toBe(2);
    await ring.getEvents(2);
    expect(ring.completions()).toEqual([
      { userData: 0n, res: 4096, flags: 0 },
      { userData, res: 8192, flags: 0 },
    ]);
    expect(ring.completions()).toEqual([]);
    const expected = new Uint8Array(8192).fill(1).fill(9, 4096);
    expect(Buffer.compare(from.bytes, expected)).toBe(0);
    for (const buffer of [to, from]) buffer.free();
  });

  test("a full SQ is said; completions come in their order, more than a burst", async () => {
    await using ring = new Ring(kernel, vmm, { entries: 256 });
    for (let i = 0; i < 256; i++) ring.queue({ opcode: IORING_OP_NOP, userData: i });
    expect(() => ring.queue({ opcode: IORING_OP_NOP })).toThrow(/^EBUSY: .*submit first/);
    ring.submit();
    await ring.getEvents(256);
    const numbers = ring.completions().map(({ userData }) => Number(userData));
    expect(numbers).toEqual([...Array(256).keys()]);
    ring.queue({ opcode: IORING_OP_NOP });
  });

  test("a tail of the CQ that can't be true is refused", async () => {
    await using ring = new Ring(kernel, vmm, { entries: 8 });
    const { view } = memoryOf(vmm);
    const rings = view.getUint32(ring.layout.kernel + IOU_RINGS, true);
    view.setUint32(rings + IO_RINGS_CQ_TAIL, 17, true);
    expect(() => ring.completions()).toThrow(/^EPROTO: /);
  });

  test("closed, it takes and gives nothing", async () => {
    const ring = new Ring(kernel, vmm, { entries: 8 });
    const close = ring.close();
    for (const use of [
      () => ring.queue({ opcode: IORING_OP_NOP }),
      () => ring.submit(),
      () => ring.completions(),
    ]) {
      expect(use).toThrow(/^EBADF: the ring is closed/);
    }
    await close;
  });

  test("that is open when its process exits leaves no thread", async () => {
    const before = threadCount();
    const fd = openHostFile(vmm, makeFile(4096));
    const ring = new Ring(kernel, vmm, { entries: 8 });
    ring.queue({ opcode: IORING_OP_READ, fd, address: ring.alloc(8).address, length: 8 });
    ring.submit();
    await ring.getEvents(1);
    expect(threadCount()).toBeGreaterThan(before);
    await vmm.exit();
    expect(threadCount()).toBe(before);
    expect(kernel.model.tasks()).toHaveLength(2);
    await ring.close();
  });

  test.each<[string, unknown[]]>([
    ["a Process of it", [{}, "vmm", { entries: 8 }]],
    ["a Kernel is wanted", ["vmm", "vmm", { entries: 8 }]],
    ["a Kernel is wanted", [undefined, "vmm", { entries: 8 }]],
    ["a Process, or its task", ["kernel", {}, { entries: 8 }]],
    ["a Process, or its task", ["kernel", null, { entries: 8 }]],
    ["another kernel's", ["other", "vmm", { entries: 8 }]],
    ["needs options", ["kernel", "vmm", undefined]],
    ["entries is a whole number", ["kernel", "vmm", {}]],
    ["no option entires; it has", ["kernel", "vmm", { entries: 8, entires: 8 }]],
    ["no option (mayOpen|sqThreadIdle)", ["kernel", "vmm", { entries: 8, ...foreign(Ring) }]],
    ['kind is "wasm" or "ts"', ["kernel", "vmm", { entries: 8, kind: "js" }]],
  ])("misuse: %s", (message, args) => {
    const named: Record<string, unknown> = { kernel, vmm, other: new Kernel() };
    const given = args.map((arg) => (typeof arg === "string" ? named[arg] : arg));
    const { freeBytes } = memoryOf(vmm).host;
    expect(() => new Ring(...(given as [never, never, never]))).toThrow(
      new RegExp(`^EINVAL: .*${message}`),
    );
    expect(memoryOf(vmm).host.freeBytes).toBe(freeBytes);
  });

  test("getEvents of no number rejects: it would wait for ever", async () => {
    await using ring = new Ring(kernel, vmm, { entries: 8 });
    for (const min of [Number.NaN, -1, 0.5, "1", undefined]) {
      await rejected("EINVAL", ring.getEvents(min as number));
    }
  });
});

/** An option that is the other kind's. */
function foreign(Ring: typeof IoUring | typeof SqPollRing): object {
  return Ring === IoUring ? { sqThreadIdle: 5 } : { mayOpen: () => true };
}

test("options of the wrong kind", () => {
  const wrong = { entries: 8, mayOpen: true } as never;
  expect(() => new IoUring(kernel, vmm, wrong)).toThrow(/^EINVAL: mayOpen is a function/);
  for (const sqThreadIdle of [-1, 0.5, Number.NaN, "5"]) {
    const options = { entries: 8, sqThreadIdle } as never;
    expect(() => new SqPollRing(kernel, vmm, options)).toThrow(/^EINVAL: sqThreadIdle is/);
  }
});

describe("an SQE", () => {
  test("is laid out as <linux/io_uring.h> has it", async () => {
    await using ring = new IoUring(kernel, vmm, { entries: 8 });
    ring.queue({
      opcode: 0x01,
      flags: 0x02,
      fd: -100,
      offset: -1,
      address: 0x1122334455667788n,
      length: 0xfffffff0,
      opFlags: 0xa1b2c3d4,
      userData: 0x0102030405060708n,
    });
    const { view, bytes } = memoryOf(vmm);
    const at = view.getUint32(ring.layout.kernel + IOU_SQES, true);
    const hex = [
      "01020000" + "9cffffff" + "ffffffffffffffff",
      "8877665544332211" + "f0ffffff" + "d4c3b2a1",
      "0807060504030201",
      "00".repeat(24),
    ];
    expect(Buffer.from(bytes.slice(at, at + 64)).toString("hex")).toBe(hex.join(""));
  });

  test.each<[string, object]>([
    ["needs an opcode", {}],
    ["no option adress; it has", { opcode: 0, adress: 1 }],
    ["opcode is whole", { opcode: 256 }],
    ["flags is whole", { opcode: 0, flags: -1 }],
    ["fd is whole", { opcode: 0, fd: 0.5 }],
    ["fd is whole", { opcode: 0, fd: 2 ** 31 }],
    ["offset is whole", { opcode: 0, offset: -2 }],
    ["address is whole", { opcode: 0, address: "1" }],
    ["length is whole", { opcode: 0, length: 2 ** 32 }],
    ["opFlags is whole", { opcode: 0, opFlags: Number.NaN }],
    ["userData is whole", { opcode: 0, userData: 2 ** 53 }],
    ["userData is whole", { opcode: 0, userData: 2n ** 64n }],
  ])("that is none is refused, and takes no slot: %s", async (message, sqe) => {
    await using ring = new IoUring(kernel, vmm, { entries: 1 });
    expect(() => ring.queue(sqe as Sqe)).toThrow(new RegExp(`^EINVAL: .*${message}`));
    ring.queue({ opcode: IORING_OP_NOP });
    expect(ring.submit()).toBe(1);
  });
});

test("memory to name: zeroed, given back once, EFAULT outside of it", async () => {
  await using ring = new IoUring(kernel, vmm, { entries: 8 });
  const shared = memoryOf(vmm);
  const { freeBytes } = shared.guest;
  const first = ring.alloc(100);
  expect(first.address).toBeGreaterThanOrEqual(shared.guestStart);
  first.bytes.fill(1);
  first.free();
  const second = ring.alloc(100);
  expect(second.address).toBe(first.address);
  expect([...second.bytes]).toEqual(Array(100).fill(0));
  first.free(); // the second keeps its place
  expect(ring.alloc(100).address).not.toBe(second.address);
  expect(shared.guest.freeBytes).toBe(freeBytes - 200);
  expect(() => ring.alloc(0)).toThrow(/^EINVAL: /);
  expect(() => ring.alloc(1 << 21)).toThrow(/^ENOMEM: /);
  const fd = openHostFile(vmm, makeFile(4096));
  ring.queue({ opcode: IORING_OP_READ, fd, address: shared.guestStart - 8, length: 16 });
  ring.submit();
  await ring.getEvents(1);
  expect(ring.completions().map(({ res }) => res)).toEqual([-errno.EFAULT]);
});

describe("openHostFile", () => {
  test.each<[RegExp, unknown[]]>([
    [/^ENOENT: \/nowhere\/at all can't be opened: no such file or directory$/, ["/nowhere/at all"]],
    [/^EINVAL: .*can't be opened: /, ["/dev/null", "rwx"]],
    [/^EINVAL: .*can't be opened: /, ["/dev/null\0"]],
    [/^EINVAL: path is a string$/, [undefined]],
    [/^EINVAL: path is a string$/, [7]],
  ])("%s", (message, args) => {
    expect(() => openHostFile(vmm, ...(args as [string]))).toThrow(
      expect.objectContaining({ name: "VhostError", message: expect.stringMatching(message) }),
    );
  });

  test("wants a process that lives", async () => {
    for (const wrong of [kernel, undefined, 1]) {
      expect(() => openHostFile(wrong as never, "/dev/null")).toThrow(/^EINVAL: a Process, or its/);
    }
    await rejected("EINVAL", exitIoWq(kernel as never));
    await vmm.exit();
    await sleep(0);
    expect(() => openHostFile(vmm, "/dev/null")).toThrow(/^ESRCH: /);
    expect(() => new IoUring(kernel, vmm, { entries: 8 })).toThrow(/^ESRCH: /);
  });
});
