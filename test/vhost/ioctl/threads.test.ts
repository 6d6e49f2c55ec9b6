// Devices by ioctl whose worker is a thread: rings are changed, moved and stopped while it works on
// them, and nothing is lost, done twice, or out of order.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { munmap } from "#dist/vhost/user-access.js";
import { ProgramEventFd, type Ring } from "../../conformance/machine/ring.js";
import { threadCount, until } from "../../helpers/devices.js";
import {
  CID,
  closeProgram,
  IoctlProgram,
  type ProgramOptions,
} from "../../helpers/ioctl-program.js";
import { ACCESS_PLATFORM, EVENT_IDX, LOG_ALL, VERSION_1 } from "../../helpers/raw-guest.js";

const KINDS = ["wasm", "ts"] as const;

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

describe.each(KINDS)("a ring under load, %s", (ring) => {
  async function loaded(options: ProgramOptions = {}) {
    const threads = threadCount();
    const program = await new IoctlProgram({ ring, ...options }).start();
    return { program, load: new Load(program), end: () => closeProgram(program, threads) };
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

  test("what the host sends comes, after a change of a ring that had nothing to do", async () => {
    const threads = threadCount();
    const program = await new IoctlProgram({ ring }).start();
    const { rx } = program;
    for (let i = 0; i < rx.num; i++) {
      rx.setDesc(i, { addr: rx.packet, len: 512, flags: 2 });
      rx.publish(i);
    }
    rx.kick.signal();
    for (let round = 0; round < 4; round++) {
      await program.ioctl("VHOST_SET_MEM_TABLE", { regions: [program.wholeMemory] });
      const connecting = program.opened.sockets?.connect(7, { timeoutMs: 20 });
      await expect(connecting).rejects.toThrow("ETIMEDOUT"); // its REQUEST is there, and the RST
      await until(() => rx.usedIdx >= 2 * round + 1);
    }
    await closeProgram(program, threads);
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
    const { tx } = program;
    const log = program.shared.allocGuest(4096, 4096);
    await program.ioctl("VHOST_SET_LOG_BASE", { value: BigInt(log) });
    const logged = { flags: 1, log_guest_addr: BigInt(tx.used) };
    await program.ioctl("VHOST_SET_VRING_ADDR", { ...program.place(tx), ...logged });
    const pages = new Uint8Array(program.shared.memory.buffer, log, 4096);
    const isMarked = () => ((pages[tx.used >>> 15] ?? 0) >>> ((tx.used >>> 12) & 7)) & 1;
    const calls = [tx.call, new ProgramEventFd()] as const;
    for (let round = 0; round < 20; round++) {
      const isOdd = round % 2 === 1;
      const [called, other] = isOdd ? [calls[1], calls[0]] : calls;
      const features = VERSION_1 | (isOdd ? LOG_ALL : 0n);
      await program.ioctl("VHOST_SET_FEATURES", { value: features });
      const fd = program.install(called.file);
      await program.ioctl("VHOST_SET_VRING_CALL", { index: 1, fd });
      other.read();
      called.read();
      pages.fill(0);
      const num = isOdd ? 500 : 0;
      await program.ioctl("VHOST_SET_VRING_BUSYLOOP_TIMEOUT", { index: 1, num });
      await program.ioctl("VHOST_VSOCK_SET_GUEST_CID", { value: BigInt(CID + (round % 2)) });
      await load.more(20);
      await until(() => called.read() > 0);
      if (isOdd) await until(() => isMarked() === 1);
      expect([other.read(), pages.some((byte) => byte !== 0)]).toEqual([0, isOdd]);
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
    await closeProgram(program, threads);
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
    // As many as the ring has; as many that were sent when the host had not heard of those; and as
    // many that were taken before it had.
    expect(stopped).toBeLessThanOrEqual(3 * 4);
    for (let got = 0; got < 40; got++) {
      rx.publish(got % 4);
      rx.kick.signal();
      await until(() => rx.usedIdx === got + 1);
      send();
    }
    await until(() => {
      send();
      return tx.usedIdx >= 40 + 4; // one for each answer that was had, and as many as may wait
    });
    await closeProgram(program, threads);
  });

  test("EVENT_IDX, and the features that stand it still", async () => {
    const { program, load, end } = await loaded();
    await load.end();
    const value = VERSION_1 | EVENT_IDX;
    await program.ioctl("VHOST_SET_FEATURES", { value });
    const other = new Load(program, program.tx.availIdx);
    await other.more(500);
    await other.end();
    const still = value | ACCESS_PLATFORM;
    await program.ioctl("VHOST_SET_FEATURES", { value: still });
    const { usedIdx } = program.tx;
    program.tx.publish(0);
    program.tx.kick.signal();
    await program.ioctl("VHOST_SET_LOG_FD", { value: -1 }); // waits for the worker
    expect(program.tx.usedIdx).toBe(usedIdx);
    await end();
  });
});
