// The whole path on real io workers: SQE, worker, file, the owner's memory, CQE.

import { execFileSync } from "node:child_process";
import { closeSync, constants, fstatSync, openSync, readFileSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { HostFile } from "#dist/io-uring/host-file.js";
import { errno } from "#dist/spec/errno.js";
import {
  AT_FDCWD,
  IO_RINGS_SQ_FLAGS,
  IORING_FSYNC_DATASYNC,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_CLOSE,
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IORING_OP_OPENAT,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IORING_SQ_CQ_OVERFLOW,
  IOSQE_ASYNC,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  IOSQE_IO_DRAIN,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  IOU_RINGS,
} from "#dist/spec/io-uring.js";
import { IouOwner, type SqeFields } from "../helpers/iou-owner.js";
import { tempFiles } from "../helpers/temp-file.js";

const files = tempFiles();
const tempFile = (name: string, content: Uint8Array) => files(content, name);
const text = (value: string) => new TextEncoder().encode(value);
const nop = (userData: number, flags = 0): SqeFields => ({ op: IORING_OP_NOP, userData, flags });
const OWN_POSITION = -1;

/** struct iovec, for each buffer. */
function iovecs(owner: IouOwner, ...buffers: { address: number; bytes: Uint8Array }[]): number {
  const { address } = owner.buffer(buffers.length * 16);
  for (const [i, buffer] of buffers.entries()) {
    owner.shared.view.setBigUint64(address + i * 16, BigInt(buffer.address), true);
    owner.shared.view.setBigUint64(address + i * 16 + 8, BigInt(buffer.bytes.length), true);
  }
  return address;
}

describe.each(["wasm", "ts"] as const)("%s rings: files", (kind) => {
  test("READ is done by iou-wrk, a thread of the owner, straight into its memory", async () => {
    await using owner = new IouOwner({ kind });
    const fd = owner.open(tempFile("read.txt", text("hello, worker")));
    const into = owner.buffer(6);
    const read = { op: IORING_OP_READ, fd, addr: into.address, len: 6, off: 7, userData: 42 };
    expect(await owner.submit(read)).toEqual([[42, 6]]);
    expect(Buffer.from(into.bytes).toString()).toBe("worker");
    const [worker] = owner.ring.wq.tasks;
    expect(worker?.comm).toBe(`iou-wrk-${owner.task.pid}`);
    expect([worker?.flags, worker?.tgid]).toEqual([0x4050, owner.task.pid]);
    expect(owner.kernel.ucounts.nproc(1000)).toBe(2);
  });

  test("WRITE, FSYNC and READV, linked, see one another's work", async () => {
    await using owner = new IouOwner({ kind });
    const path = tempFile("linked.txt", new Uint8Array(0));
    const fd = owner.open(path);
    const from = owner.buffer(text("0123456789"));
    const [a, b] = [owner.buffer(4), owner.buffer(6)];
    const cqes = await owner.submit(
      { op: IORING_OP_WRITE, fd, addr: from.address, len: 10, userData: 1, flags: IOSQE_IO_LINK },
      { op: IORING_OP_FSYNC, fd, userData: 2, flags: IOSQE_IO_LINK },
      { op: IORING_OP_READV, fd, addr: iovecs(owner, a, b), len: 2, userData: 3 },
    );
    expect(cqes).toEqual([
      [1, 10],
      [2, 0],
      [3, 10],
    ]);
    expect(readFileSync(path, "utf8")).toBe("0123456789");
    expect(Buffer.from(a.bytes).toString() + Buffer.from(b.bytes)).toBe("0123456789");
  });
});

describe("opcodes", () => {
  test("WRITEV gathers, and the file's own position goes on", async () => {
    await using owner = new IouOwner();
    const path = tempFile("writev.txt", new Uint8Array(0));
    const fd = owner.open(path);
    const list = iovecs(owner, owner.buffer(text("ab")), owner.buffer(text("cde")));
    const op = IORING_OP_WRITEV;
    const writev = { op, fd, addr: list, len: 2, off: OWN_POSITION, userData: 1 };
    expect(await owner.submit(writev)).toEqual([[1, 5]]);
    expect(await owner.submit(writev)).toEqual([[1, 5]]);
    expect(readFileSync(path, "utf8")).toBe("abcdeabcde");
    const sync = { op: IORING_OP_FSYNC, fd, opFlags: IORING_FSYNC_DATASYNC, userData: 2 };
    expect(await owner.submit(sync)).toEqual([[2, 0]]);
  });

  test("OPENAT opens what may be opened, CLOSE closes it", async () => {
    const path = tempFile("open.txt", text("open"));
    await using owner = new IouOwner({ mayOpen: (asked) => asked === path });
    const flags = constants.O_RDONLY;
    const openat = (name: string, userData: number): SqeFields => {
      const { address } = owner.buffer(text(`${name}\0`));
      return { op: IORING_OP_OPENAT, fd: AT_FDCWD, addr: address, opFlags: flags, userData };
    };
    const [[, fd = -1] = []] = await owner.submit(openat(path, 1));
    expect(fd).toBeGreaterThanOrEqual(0);
    const into = owner.buffer(4);
    const read = { op: IORING_OP_READ, fd, addr: into.address, len: 4, userData: 2 };
    expect(await owner.submit(read)).toEqual([[2, 4]]);
    expect(Buffer.from(into.bytes).toString()).toBe("open");
    const close = { op: IORING_OP_CLOSE, fd, userData: 3 };
    expect(await owner.submit(close)).toEqual([[3, 0]]);
    expect(await owner.submit(close)).toEqual([[3, -errno.EBADF]]);
    expect(await owner.submit(read)).toEqual([[2, -errno.EBADF]]);
    expect(await owner.submit(openat("/etc/hostname", 4))).toEqual([[4, -errno.EACCES]]);
  });

  test("what OPENAT opened outlives its worker, and nobody else's is closed", async () => {
    const path = tempFile("outlives.txt", text("mine"));
    await using owner = new IouOwner({ mayOpen: () => true });
    const { address } = owner.buffer(text(`${path}\0`));
    const openat = { op: IORING_OP_OPENAT, fd: AT_FDCWD, addr: address, userData: 1 };
    const fds = [];
    for (let i = 0; i < 3; i++)
      fds.push(((await owner.submit(openat)) as number[][])[0]?.[1] ?? -1);
    const [kept = -1, ...others] = fds;
    for (const fd of others) await owner.submit({ op: IORING_OP_CLOSE, fd, userData: 2 });
    const foreign = others.map(() => openSync("/dev/null", "r")); // they get the numbers
    const end = new Error("its worker ends");
    await Promise.all(owner.ring.wq.tasks.map(({ thread }) => thread?.terminate(end)));
    for (const fd of foreign) {
      expect(fstatSync(fd).isCharacterDevice()).toBe(true);
      closeSync(fd);
    }
    const into = owner.buffer(4);
    const read = { op: IORING_OP_READ, fd: kept, addr: into.address, len: 4, userData: 3 };
    expect(await owner.submit(read)).toEqual([[3, 4]]);
    expect(Buffer.from(into.bytes).toString()).toBe("mine");
  });

  test("mayOpen that throws: EACCES, and the ring goes on", async () => {
    const mayOpen = () => {
      throw new Error("no");
    };
    await using owner = new IouOwner({ mayOpen });
    const { address } = owner.buffer(text("/dev/null\0"));
    const openat = { op: IORING_OP_OPENAT, fd: AT_FDCWD, addr: address, userData: 1 };
    expect(await owner.submit(openat)).toEqual([[1, -errno.EACCES]]);
    expect(await owner.submit({ op: IORING_OP_NOP, userData: 2 })).toEqual([[2, 0]]);
  });

  test("without leave, OPENAT opens nothing; errors of the host come back", async () => {
    await using owner = new IouOwner();
    const path = tempFile("closed.txt", text("closed"));
    const { address } = owner.buffer(text(`${path}\0`));
    const openat = { op: IORING_OP_OPENAT, fd: AT_FDCWD, addr: address, userData: 1 };
    expect(await owner.submit(openat)).toEqual([[1, -errno.EACCES]]);
    const fd = owner.open(path, "r");
    const write = { op: IORING_OP_WRITE, fd, addr: address, len: 1, userData: 2 };
    expect(await owner.submit(write)).toEqual([[2, -errno.EBADF]]);
  });

  test("a pipe must be nonblocking; what would wait gets EAGAIN, and is unbounded", async () => {
    await using owner = new IouOwner();
    const path = `${tempFile("pipe", new Uint8Array(0))}.fifo`;
    execFileSync("mkfifo", [path]);
    const blocking = openSync(path, constants.O_RDWR);
    expect(() => new HostFile(blocking)).toThrow(/^EINVAL: a pipe/);
    const fd = owner.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const into = owner.buffer(4);
    const read = { op: IORING_OP_READ, fd, addr: into.address, len: 4, off: OWN_POSITION };
    expect(await owner.submit({ ...read, userData: 1 })).toEqual([[1, -errno.EAGAIN]]);
    expect(owner.ring.wq.workers).toEqual({ bounded: 0, unbounded: 1 });
    writeSync(blocking, "pipe");
    expect(await owner.submit({ ...read, userData: 2 })).toEqual([[2, 4]]);
    closeSync(blocking);
  });

  test("a file that is closed while it is read stays open until then", async () => {
    await using owner = new IouOwner();
    const fd = owner.open(tempFile("busy.txt", text("busy")));
    const into = owner.buffer(4);
    const read = { op: IORING_OP_READ, fd, addr: into.address, len: 4, userData: 1 };
    const cqes = await owner.submit(read, { op: IORING_OP_CLOSE, fd, userData: 2 });
    expect(cqes).toEqual([
      [2, 0],
      [1, 4],
    ]);
    expect(Buffer.from(into.bytes).toString()).toBe("busy");
  });
});

describe("an SQE is refused", () => {
  const read = { op: IORING_OP_READ, userData: 1 };
  test.each<[string, Partial<SqeFields>, number]>([
    ["no opcode", { op: 200 }, errno.EINVAL],
    ["an opcode that is not done", { op: 45 }, errno.EINVAL],
    ["no flag", { flags: 0x80 }, errno.EINVAL],
    ["a registered file", { flags: IOSQE_FIXED_FILE }, errno.EBADF],
    ["a provided buffer", { flags: IOSQE_BUFFER_SELECT }, errno.EOPNOTSUPP],
    ["rw_flags", { opFlags: 1 }, errno.EOPNOTSUPP],
    ["the host's memory", { addr: 65536, len: 8 }, errno.EFAULT],
    ["past the end", { addr: (1 << 20) - 4, len: 8 }, errno.EFAULT],
    ["an address above 2^63", { addr: 2n ** 64n - 8n, len: 16 }, errno.EFAULT],
    ["a negative position", { off: -2, addr: (1 << 20) - 8, len: 8 }, errno.EINVAL],
    ["a file that is not open", { fd: 77, addr: (1 << 20) - 8, len: 8 }, errno.EBADF],
    ["the host's own descriptor", { fd: 1, addr: (1 << 20) - 8, len: 8 }, errno.EBADF],
    ["a write too far", { op: 23, off: 2n ** 62n, addr: (1 << 20) - 8, len: 8 }, errno.EFBIG],
    ["iovecs in the host's memory", { op: 1, addr: 65536, len: 1 }, errno.EFAULT],
    ["too many iovecs", { op: 1, addr: (1 << 20) - 16, len: 1025 }, errno.EINVAL],
    ["a path without an end", { op: 18, fd: -100, addr: (1 << 20) - 1 }, errno.EFAULT],
    ["FSYNC with an address", { op: 3, addr: 8 }, errno.EINVAL],
    ["CLOSE with a length", { op: 19, len: 8 }, errno.EINVAL],
  ])("%s", async (_, fields, error) => {
    await using owner = new IouOwner();
    owner.shared.bytes[(1 << 20) - 1] = 0x61;
    expect(await owner.submit({ ...read, ...fields })).toEqual([[1, -error]]);
    expect(owner.ring.wq.workers).toEqual({ bounded: 0, unbounded: 0 });
  });

  test("an iovec that points at the host's memory, among good ones", async () => {
    await using owner = new IouOwner();
    const fd = owner.open(tempFile("iovec.txt", text("x")));
    const list = iovecs(owner, owner.buffer(8), { address: 65536, bytes: new Uint8Array(8) });
    const readv = { op: IORING_OP_READV, fd, addr: list, len: 2, userData: 1 };
    expect(await owner.submit(readv)).toEqual([[1, -errno.EFAULT]]);
  });
});

describe("chains", () => {
  test("a failure breaks the rest, a hard link does not", async () => {
    await using owner = new IouOwner();
    const bad = { op: IORING_OP_CLOSE, fd: 99 };
    const soft = [{ ...bad, userData: 1, flags: IOSQE_IO_LINK }, nop(2, IOSQE_IO_LINK), nop(3)];
    const gone = -errno.ECANCELED;
    expect(await owner.submit(...soft)).toEqual([
      [1, -errno.EBADF],
      [2, gone],
      [3, gone],
    ]);
    const hard = [{ ...bad, userData: 1, flags: IOSQE_IO_HARDLINK }, nop(2)];
    expect(await owner.submit(...hard)).toEqual([
      [1, -errno.EBADF],
      [2, 0],
    ]);
  });

  test("a short read breaks the rest", async () => {
    await using owner = new IouOwner();
    const fd = owner.open(tempFile("short.txt", text("abc")));
    const { address } = owner.buffer(8);
    const flags = IOSQE_IO_LINK;
    const read = { op: IORING_OP_READ, fd, addr: address, len: 8, userData: 1, flags };
    expect(await owner.submit(read, nop(2))).toEqual([
      [1, 3],
      [2, -errno.ECANCELED],
    ]);
  });

  test("one bad SQE spoils all of its chain, and no other", async () => {
    await using owner = new IouOwner();
    const bad = { op: 200, userData: 2, flags: IOSQE_IO_LINK };
    const cqes = await owner.submit(nop(1, IOSQE_IO_LINK), bad, nop(3), nop(4));
    const gone = -errno.ECANCELED;
    expect(cqes).toEqual([
      [1, gone],
      [2, -errno.EINVAL],
      [3, gone],
      [4, 0],
    ]);
  });

  test("IO_DRAIN begins when all before it are done, and holds up all after it", async () => {
    await using owner = new IouOwner();
    const fd = owner.open(tempFile("drain.txt", text("abc")));
    const { address } = owner.buffer(4);
    const read = { op: IORING_OP_READ, fd, addr: address, len: 3 };
    const cqes = await owner.submit(
      { ...read, userData: 1 },
      nop(2),
      { ...read, userData: 3, flags: IOSQE_IO_DRAIN },
      nop(4),
    );
    expect(cqes.map(([userData]) => userData)).toEqual([2, 1, 3, 4]);
  });

  test("CQE_SKIP_SUCCESS is silent when it goes well", async () => {
    await using owner = new IouOwner();
    const close = { op: IORING_OP_CLOSE, fd: 99, userData: 3, flags: IOSQE_CQE_SKIP_SUCCESS };
    owner.prepare(nop(1, IOSQE_CQE_SKIP_SUCCESS), nop(2), close);
    owner.ring.enter();
    await owner.ring.getEvents(2);
    expect(owner.reap()).toEqual([
      [2, 0],
      [3, -errno.EBADF],
    ]);
  });
});

describe("limits", () => {
  test("where no worker can be made, requests are cancelled", async () => {
    await using owner = new IouOwner({}, { rlimits: { NPROC: 1 } });
    const fd = owner.open(tempFile("limit.txt", text("abc")));
    const { address } = owner.buffer(4);
    const read = { op: IORING_OP_READ, fd, addr: address, len: 3, userData: 1 };
    expect(await owner.submit(read, { ...read, userData: 2 })).toEqual([
      [1, -errno.ECANCELED],
      [2, -errno.ECANCELED],
    ]);
  });

  test("what finds no room in the CQ waits and is shown; too much of it is EBUSY", async () => {
    await using owner = new IouOwner({ entries: 4, cqEntries: 4 });
    const rings = owner.shared.view.getUint32(owner.ring.layout.kernel + IOU_RINGS, true);
    const flags = () => owner.shared.view.getUint32(rings + IO_RINGS_SQ_FLAGS, true);
    const enter = (...list: number[]) => {
      owner.prepare(...list.map((n) => nop(n)));
      return owner.ring.enter();
    };
    expect(enter(1, 2, 3, 4)).toBe(4);
    expect(flags()).toBe(0);
    expect(enter(5, 6, 7, 8)).toBe(4);
    expect(flags()).toBe(IORING_SQ_CQ_OVERFLOW);
    expect(enter(9, 10, 11, 12)).toBe(4);
    expect(enter(13)).toBe(-errno.EBUSY);
    const seen: number[] = [];
    for (let i = 0; i < 4; i++) {
      seen.push(...owner.reap().map(([userData]) => userData));
      owner.ring.enter();
    }
    expect(seen).toEqual(Array.from({ length: 13 }, (_, i) => i + 1));
    expect(flags()).toBe(0);
  });
});

describe("cancelling and closing", () => {
  test("ASYNC_CANCEL finds what waits, what is being done, and nothing", async () => {
    await using owner = new IouOwner();
    owner.ring.wq.maxWorkers(1, 1);
    const fd = owner.open(tempFile("cancel.txt", new Uint8Array(1 << 19)));
    const { address } = owner.buffer(1 << 19);
    const read = { op: IORING_OP_READ, fd, addr: address, len: 1 << 19 };
    const cancel = (addr: number, userData: number) => ({
      op: IORING_OP_ASYNC_CANCEL,
      addr,
      userData,
    });
    const cqes = await owner.submit(
      { ...read, userData: 1, flags: IOSQE_ASYNC },
      { ...read, userData: 2 },
      cancel(2, 3),
      cancel(1, 4),
      cancel(9, 5),
    );
    expect(Object.fromEntries(cqes)).toEqual({
      1: 1 << 19,
      2: -errno.ECANCELED,
      3: 0,
      4: -errno.EALREADY,
      5: -errno.ENOENT,
    });
  });

  test("a ring that is closed gives its memory back; the workers stay (iw-07)", async () => {
    await using owner = new IouOwner();
    const fd = owner.open(tempFile("close.txt", text("abc")));
    const into = owner.buffer(4);
    const before = owner.shared.host.freeBytes;
    owner.prepare(
      { op: IORING_OP_READ, fd, addr: into.address, len: 3, userData: 1 },
      nop(2, IOSQE_IO_DRAIN),
    );
    owner.ring.enter();
    const waiting = owner.ring.getEvents(2);
    await owner.ring.close();
    await waiting;
    expect(owner.shared.host.freeBytes).toBeGreaterThan(before);
    expect(owner.ring.wq.workers.bounded).toBe(1);
    expect(() => owner.ring.enter()).toThrow(/^EBADF/);
  });
});
