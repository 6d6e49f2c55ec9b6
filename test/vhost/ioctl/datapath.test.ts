// A vhost-vsock by ioctl beyond what is recorded of a real kernel: rings in memory, kicks and calls
// by eventfds, the host's sockets.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Machine } from "#dist/conformance/machine/index.js";
import { CID, HEADER_BYTES, PLAIN, VsockRig } from "#dist/conformance/machine/vsock-rig.js";
import { openVhost } from "#dist/index.js";
import { fdClose } from "#dist/kernel/files.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { __TASK_STOPPED } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { VhostFile } from "#dist/vhost/ioctl/file.js";
import { ioctl, vhostIoctl } from "#dist/vhost/ioctl/front.js";
import type { VsockStream } from "#dist/vsock/stream.js";
import { until } from "../../helpers/devices.js";
import { LOG_ALL } from "../../helpers/raw-guest.js";

function boot(options?: ConstructorParameters<typeof VsockRig>[1]) {
  const machine = new Machine();
  const parent = machine.boot();
  return { machine, parent, rig: new VsockRig(parent.fork(), options) };
}

const REQUEST = 1;
const RW = 5;
const LEN = 24;
const OP = 30;
const NOTIFY_ON_EMPTY = 1n << 24n;

test("a stream between a program on the host and a driver that lays out its rings", async () => {
  const { machine, rig } = boot({ num: 16, rxBuffers: 0 });
  const buffers = Array.from({ length: 8 }, (_, i) => rig.postRx(i, 512));
  const got: string[] = [];
  const streams: VsockStream[] = [];
  rig.sockets.listen(1234, (stream) => {
    streams.push(stream);
    stream.on("data", (bytes) => got.push(bytes.toString()));
  });
  const send = (op: number, text = "") => {
    const address = rig.alloc(HEADER_BYTES + text.length);
    rig.packet({ op, dstPort: 1234, len: text.length, bufAlloc: 65536 }, address);
    new Uint8Array(rig.memory.buffer).set(Buffer.from(text), address + HEADER_BYTES);
    const index = rig.tx.availIdx % 16;
    rig.tx.setDesc(index, { addr: address, len: HEADER_BYTES + text.length });
    rig.tx.publish(index);
    rig.kick();
  };
  send(REQUEST);
  await nextTurn();
  send(RW, "hello");
  await nextTurn();
  expect(got).toEqual(["hello"]);
  streams[0]?.write("hi");
  await nextTurn();
  machine.settle();
  const used = Array.from({ length: rig.rx.usedIdx }, (_, i) => rig.rx.usedEntry(i).id);
  const heads = used.map((id) => rig.at(buffers[id] ?? 0));
  const data = heads.filter((view) => view.getUint16(OP, true) === RW);
  expect(data.map((view) => view.getUint32(LEN, true))).toEqual([2]);
});

test("NOTIFY_ON_EMPTY calls a driver that asked for no calls, when all is taken", () => {
  const calls = [PLAIN, PLAIN | NOTIFY_ON_EMPTY].map((features) => {
    const { rig } = boot({ features });
    rig.tx.availFlags = 1;
    rig.sendRequest();
    rig.kick();
    return rig.tx.call.read();
  });
  expect(calls).toEqual([0, 1]);
});

describe("the dirty log", () => {
  const bit = (rig: VsockRig, log: number, address: number) => {
    const page = address >>> 12;
    return (rig.at(log).getUint8(page >>> 3) >>> (page & 7)) & 1;
  };

  test("has the pages of buffers that were written, and of the used ring if that is asked", () => {
    const { rig } = boot({ rxBuffers: 0 });
    const buffer = rig.postRx(0, 512);
    const log = rig.main.mapPages(4096);
    rig.must("VHOST_SET_LOG_BASE", BigInt(log));
    rig.must("VHOST_SET_FEATURES", PLAIN | LOG_ALL);
    rig.must("VHOST_SET_VRING_ADDR", {
      index: 0,
      ring: rig.rx,
      flags: 1,
      log_guest_addr: BigInt(rig.rx.used),
    });
    rig.sendRequest();
    rig.kick();
    expect(rig.rx.usedIdx).toBe(1);
    const { rx, tx } = rig;
    const bits = [buffer, rx.used, tx.used, tx.packet].map((at) => bit(rig, log, at));
    expect(bits).toEqual([1, 1, 0, 0]);
  });

  test("may lie where nothing is mapped: then nothing is marked, and all goes on", () => {
    const { rig } = boot();
    rig.must("VHOST_SET_LOG_BASE", 4096n);
    rig.must("VHOST_SET_FEATURES", PLAIN | LOG_ALL);
    rig.sendRequest();
    rig.kick();
    expect([rig.tx.usedIdx, rig.rx.usedIdx]).toEqual([1, 1]);
  });
});

test("a ring that is moved where nothing is mapped errs at each kick, until it is back", () => {
  const { rig } = boot();
  const place = (desc: number) =>
    rig.must("VHOST_SET_VRING_ADDR", { index: 1, ring: rig.tx, desc_user_addr: BigInt(desc) });
  rig.sendRequest();
  place(4096);
  expect(rig.kickAndSee("tx")).toEqual({
    tx_used_idx: 0,
    tx_last_avail: 0,
    tx_err_signals: 1,
    tx_call_signals: 0,
    tx_used_flags: 1, // as with a table that was unmapped: dp-26b of the records
  });
  place(rig.tx.desc);
  expect(rig.kickAndSee("tx")).toMatchObject({ tx_used_idx: 1, tx_err_signals: 0 });
});

test("another CID while it runs: packets of the old one are dropped", () => {
  const { rig } = boot();
  rig.must("VHOST_VSOCK_SET_GUEST_CID", CID + 1);
  rig.sendRequest();
  rig.kick();
  expect([rig.tx.usedIdx, rig.rx.usedIdx]).toEqual([1, 0]);
  rig.tx.setDesc(1, { addr: rig.packet({ srcCid: CID + 1 }), len: HEADER_BYTES });
  rig.tx.publish(1);
  rig.kick();
  expect([rig.tx.usedIdx, rig.rx.usedIdx]).toEqual([2, 1]);
});

describe("in a program", () => {
  /** Its worker, a thread, has stopped as well: it is in no turn any more that it had begun. */
  async function stop(kernel: Kernel, { pid }: Task, file: VhostFile): Promise<void> {
    kernel.kill(pid, SIGNALS.SIGSTOP);
    await until(() => file.state.workers.tasks.every(({ state }) => state === __TASK_STOPPED));
  }

  test("an ioctl that waits for a worker that is stopped returns when it goes on", async () => {
    const kernel = new Kernel({ epoch: "v6.12" });
    const task = kernel.spawn({ memoryBytes: 1 << 20 });
    const { fd, file } = openVhost(kernel, task, "/dev/vhost-vsock");
    await ioctl(task, fd, "VHOST_SET_OWNER");
    await stop(kernel, task, file);
    let isDone = false;
    const waiting = ioctl(task, fd, "VHOST_SET_LOG_FD", { value: -1 }).then(() => {
      isDone = true;
    });
    await nextTurn();
    expect(isDone).toBe(false);
    kernel.kill(task.pid, SIGNALS.SIGCONT);
    await waiting;
    kernel.exitGroup(task, 0);
    expect([file.count, file.state.owner.isSet]).toEqual([0, false]);
  });

  test("and when the device has lost its owner, its descriptor been closed meanwhile", async () => {
    const kernel = new Kernel({ epoch: "v6.12" });
    const task = kernel.spawn({ memoryBytes: 1 << 20 });
    const { fd, file } = openVhost(kernel, task, "/dev/vhost-net");
    await ioctl(task, fd, "VHOST_SET_OWNER");
    await stop(kernel, task, file);
    const waiting = ioctl(task, fd, "VHOST_SET_LOG_FD", { value: -1 });
    const other = ioctl(task, fd, "VHOST_SET_LOG_BASE", { value: 0n });
    other.catch(() => {}); // looked at later
    await nextTurn();
    fdClose(task.files ?? expect.fail("no table"), fd);
    expect(file.count).toBe(2);
    file.state.reset();
    await waiting;
    await expect(other).rejects.toMatchObject({ code: "EPERM" }); // its turn came after that
    expect(file.count).toBe(0);
  });

  test("arguments by address: where nothing is mapped, EFAULT", async () => {
    const kernel = new Kernel({ epoch: "v6.12" });
    const task = kernel.spawn({ memoryBytes: 1 << 20 });
    const { fd, file } = openVhost(kernel, task, "/dev/vhost-vsock");
    expect(file).toBeInstanceOf(VhostFile);
    await expect(vhostIoctl(task, fd, 0x8008af00, 0n)).rejects.toMatchObject({ code: "EFAULT" });
    expect(() => openVhost(kernel, task, "/dev/vhost-blk")).toThrow("ENOENT");
    await expect(ioctl(task, fd, "VHOST_SET_OWNR")).rejects.toMatchObject({ code: "EINVAL" });
  });
});
