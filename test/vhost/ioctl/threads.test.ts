// Devices by ioctl whose worker is a thread: rings are changed, moved and stopped while it works on
// them, and nothing is lost, done twice, or out of order.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
} from "#dist/spec/virtio-config.js";
import { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import { munmap } from "#dist/vhost/user-access.js";
import type { Ring } from "../../conformance/machine/ring.js";
import { threadCount, until } from "../../helpers/devices.js";
import { CID, IoctlProgram, type ProgramOptions } from "../../helpers/ioctl-program.js";

const KINDS = ["wasm", "ts"] as const;
const VERSION_1 = 1n << BigInt(VIRTIO_F_VERSION_1);

/** Sends packets that nobody is to have, as fast as they come back: in order, that is checked. */
class Load {
  sent: number;
  back: number;
  readonly #program: IoctlProgram;
  #isOver = false;
  readonly #done: Promise<void>;

  /** `start`: entries that the ring has seen. */
  constructor(program: IoctlProgram, start = 0) {
    this.#program = program;
    this.sent = start;
    this.back = start;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    const { tx } = this.#program;
    while (!this.#isOver || this.back < this.sent) {
      this.#take(tx);
      while (!this.#isOver && this.sent - this.back < tx.num) {
        tx.publish(this.sent++ % tx.num);
      }
      tx.kick.signal();
      await nextTurn();
    }
  }

  #take(tx: Ring): void {
    for (; (tx.usedIdx - this.back) & 0xffff; this.back++) {
      expect([this.back, tx.usedEntry(this.back & 0xffff).id]).toEqual([
        this.back,
        this.back % tx.num,
      ]);
    }
  }

  /** Until so many more came back. */
  async more(count: number): Promise<void> {
    const end = this.back + count;
    await Promise.race([until(() => this.back >= end), this.#done]);
    expect(this.back).toBeGreaterThanOrEqual(end);
  }

  /** All that was sent is back. */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#done;
    expect(this.#program.tx.err.read()).toBe(0);
  }
}

async function close({ task, kernel, opened }: IoctlProgram, threads: number): Promise<void> {
  kernel.exitGroup(task, 0);
  expect(opened.file.count).toBe(0);
  await until(() => threadCount() === threads);
  expect(kernel.tasks().filter(({ comm }) => comm.startsWith("vhost-"))).toEqual([]);
}

describe.each(KINDS)("a ring under load, %s", (ring) => {
  async function loaded(options: ProgramOptions = {}) {
    const threads = threadCount();
    const program = await new IoctlProgram({ ring, ...options }).start();
    return { program, load: new Load(program), end: () => close(program, threads) };
  }

  test("its worker is a thread that sleeps when there is nothing, and wakes by kicks", async () => {
    const { program, load, end } = await loaded();
    await load.more(1000);
    await load.end();
    expect(program.tx.call.read()).toBeGreaterThan(0);
    expect(program.opened.packets()).toBeGreaterThan(999);
    await end();
  });

  test("regions come and go", async () => {
    const { program, load, end } = await loaded();
    const whole = program.wholeMemory;
    const half = whole.memory_size / 2n;
    const parts = [
      { ...whole, memory_size: half },
      {
        ...whole,
        guest_phys_addr: whole.guest_phys_addr + half,
        memory_size: whole.memory_size - half,
        userspace_addr: whole.userspace_addr + half,
      },
    ];
    const far = {
      guest_phys_addr: 1n << 40n,
      memory_size: 4096n,
      userspace_addr: whole.userspace_addr,
    };
    for (let round = 0; round < 30; round++) {
      const regions = [[whole], parts, [whole, far], [far, ...parts]][round % 4] ?? [];
      await program.ioctl("VHOST_SET_MEM_TABLE", { regions });
      await load.more(20);
    }
    await load.end();
    await end();
  });

  test("it is stopped and started, and goes on where it was", async () => {
    const { program, load, end } = await loaded();
    for (let round = 0; round < 30; round++) {
      await program.ioctl("VHOST_VSOCK_SET_RUNNING", { value: 0 });
      const { num: base } = await program.ioctl("VHOST_GET_VRING_BASE", { index: 1, num: 0 });
      expect(base).toBe(program.tx.usedIdx); // what was popped was given back
      await program.ioctl("VHOST_VSOCK_SET_RUNNING", { value: 1 });
      await load.more(20);
    }
    await load.end();
    await end();
  });

  test("it is told to log, to call another eventfd, to poll, to have another CID", async () => {
    const { program, load, end } = await loaded();
    const log = BigInt(program.shared.allocGuest(4096, 4096));
    await program.ioctl("VHOST_SET_LOG_BASE", { value: log });
    const { tx } = program;
    for (let round = 0; round < 20; round++) {
      const isOdd = round % 2 === 1;
      const features = VERSION_1 | (isOdd ? 1n << 26n : 0n);
      await program.ioctl("VHOST_SET_FEATURES", { value: features });
      const fd = program.install((isOdd ? tx.err : tx.call).file);
      if (!isOdd) await program.ioctl("VHOST_SET_VRING_CALL", { index: 1, fd });
      const num = isOdd ? 500 : 0;
      await program.ioctl("VHOST_SET_VRING_BUSYLOOP_TIMEOUT", { index: 1, num });
      await program.ioctl("VHOST_VSOCK_SET_GUEST_CID", { value: BigInt(CID + (round % 2)) });
      await load.more(20);
    }
    await load.end();
    await end();
  });

  test("it is moved where nothing is mapped: each kick is an error, till it is back", async () => {
    const threads = threadCount();
    const program = await new IoctlProgram({ ring }).start();
    const { tx } = program;
    const kickAndErr = async () => {
      tx.kick.signal();
      let errors = 0;
      await until(() => {
        errors += tx.err.read();
        return errors > 0;
      });
      return errors;
    };
    tx.publish(0);
    await program.ioctl("VHOST_SET_VRING_ADDR", { ...program.place(tx), desc_user_addr: 4096n });
    expect([await kickAndErr(), await kickAndErr(), tx.usedIdx]).toEqual([1, 1, 0]);
    await program.ioctl("VHOST_SET_VRING_ADDR", program.place(tx));
    tx.kick.signal();
    await until(() => tx.usedIdx === 1);
    munmap(program.shared.memory, BigInt(tx.avail), 4096n);
    await program.ioctl("VHOST_SET_LOG_FD", { value: -1 }); // the worker knows
    tx.publish(1);
    expect([await kickAndErr(), tx.usedIdx]).toEqual([1, 1]);
    await close(program, threads);
  });

  test("answers wait until the guest has room for them, however often it is kicked", async () => {
    const threads = threadCount();
    const program = await new IoctlProgram({ ring, num: 4 }).start();
    const { tx, rx } = program;
    tx.view.setBigUint64(tx.packet, BigInt(CID), true);
    tx.view.setUint16(tx.packet + 30, 1, true); // REQUEST, which nobody listens for
    for (let i = 0; i < 4; i++) rx.setDesc(i, { addr: rx.packet, len: 512, flags: 2 });
    let sent = 0;
    const send = () => {
      while (((sent - tx.usedIdx) & 0xffff) < 4) tx.publish(sent++ % 4);
      tx.kick.signal();
    };
    for (let i = 0; i < 50; i++, await nextTurn()) send();
    const stopped = tx.usedIdx;
    expect(stopped).toBeLessThan(12); // as many as the ring has, and what was on its way
    for (let got = 0; got < 40; got++) {
      rx.publish(got % 4);
      rx.kick.signal();
      await until(() => rx.usedIdx === got + 1);
      send();
    }
    await until(() => tx.usedIdx >= stopped + 36);
    await close(program, threads);
  });

  test("EVENT_IDX, and the features that stand it still", async () => {
    const { program, load, end } = await loaded();
    await load.end();
    const value = VERSION_1 | (1n << BigInt(VIRTIO_F_EVENT_IDX));
    await program.ioctl("VHOST_SET_FEATURES", { value });
    const other = new Load(program, program.tx.availIdx);
    await other.more(500);
    await other.end();
    const still = value | (1n << BigInt(VIRTIO_F_ACCESS_PLATFORM));
    await program.ioctl("VHOST_SET_FEATURES", { value: still });
    const { usedIdx } = program.tx;
    program.tx.publish(0);
    program.tx.kick.signal();
    await program.ioctl("VHOST_SET_LOG_FD", { value: -1 }); // waits for the worker
    expect(program.tx.usedIdx).toBe(usedIdx);
    await end();
  });
});

describe.each(KINDS)("vhost-net, %s", (ring) => {
  const HEADER_BYTES = 12;
  const FRAME_BYTES = 60;

  const frameOf = (number: number) => {
    const frame = new Uint8Array(FRAME_BYTES);
    new DataView(frame.buffer).setUint32(20, number);
    return frame;
  };
  const numberOf = (frame: Uint8Array) =>
    new DataView(frame.buffer, frame.byteOffset).getUint32(20);

  async function withTap() {
    const threads = threadCount();
    const program = await new IoctlProgram({ kind: "net", ring }).setUp();
    const wire: number[] = [];
    const tap = new NetBackendFile(
      () => {},
      (frame) => wire.push(numberOf(frame)),
    );
    const fd = program.install(tap);
    const attach = (index: number, is = true) =>
      program.ioctl("VHOST_NET_SET_BACKEND", { index, fd: is ? fd : -1 });
    await attach(0);
    await attach(1);
    return { program, tap, wire, attach, end: () => close(program, threads) };
  }

  test("the guest's frames go out, in order, also while their ring is let go", async () => {
    const { program, wire, attach, end } = await withTap();
    const { tx } = program;
    const buffers = program.shared.allocGuest(tx.num * 128, 4096);
    let sent = 0;
    const send = () => {
      for (; ((sent - tx.usedIdx) & 0xffff) < tx.num; sent++) {
        const at = buffers + (sent % tx.num) * 128;
        program.shared.bytes.set(frameOf(sent), at + HEADER_BYTES);
        tx.setDesc(sent % tx.num, { addr: at, len: HEADER_BYTES + FRAME_BYTES });
        tx.publish(sent % tx.num);
      }
      tx.kick.signal();
    };
    for (let round = 0; round < 200; round++) {
      send();
      if (round % 10 === 5) await attach(1, false);
      if (round % 10 === 6) await attach(1);
      await nextTurn();
    }
    await attach(1);
    tx.kick.signal();
    await until(() => tx.usedIdx === (sent & 0xffff));
    await until(() => wire.length === sent);
    expect(wire).toEqual(Array.from({ length: sent }, (_, i) => i));
    await end();
  });

  test("frames for the guest wait at the tap while it has no ring, and come in order", async () => {
    const { program, tap, attach, end } = await withTap();
    const { rx } = program;
    const buffers = program.shared.allocGuest(rx.num * 128, 4096);
    const got: number[] = [];
    const post = (count: number) => {
      for (; count > 0; count--) {
        const head = rx.availIdx % rx.num;
        rx.setDesc(head, { addr: buffers + head * 128, len: 128, flags: 2 });
        rx.publish(head);
      }
      rx.kick.signal();
    };
    const take = () => {
      for (let fresh = (rx.usedIdx - got.length) & 0xffff; fresh > 0; fresh--) {
        const { id, len } = rx.usedEntry(got.length);
        expect(len).toBe(HEADER_BYTES + FRAME_BYTES);
        const at = buffers + id * 128 + HEADER_BYTES;
        got.push(numberOf(program.shared.bytes.subarray(at, at + FRAME_BYTES)));
        post(1);
      }
    };
    post(rx.num);
    let sent = 0;
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 10; i++) if (tap.receive(frameOf(sent))) sent++;
      if (round % 10 === 5) await attach(0, false);
      if (round % 10 === 6) await attach(0);
      take();
      await nextTurn();
    }
    await attach(0);
    await until(() => {
      take();
      return got.length === sent;
    });
    expect(got).toEqual(Array.from({ length: sent }, (_, i) => i));
    await end();
  });
});
