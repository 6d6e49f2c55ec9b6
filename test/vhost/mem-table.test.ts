// The memory table of a device that runs: regions come and go while it has requests.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import type { MemoryRegion } from "#dist/memory/guest-memory.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { pattern } from "../helpers/blk-raw.js";
import { custom, rejected } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { type GuestRing, IO_MODES, MODES, RawGuest } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
/** Far from all else. */
const FAR = GUEST_BASE + (1n << 40n);

/** A range in two regions that adjoin, at a page. */
function halves({ guestAddress, sizeBytes, linearAddress }: MemoryRegion): MemoryRegion[] {
  const bytes = (sizeBytes / 2n) & ~4095n;
  return [
    { guestAddress, sizeBytes: bytes, linearAddress },
    {
      guestAddress: guestAddress + bytes,
      sizeBytes: sizeBytes - bytes,
      linearAddress: linearAddress + Number(bytes),
    },
  ];
}

describe.each(IO_MODES)("a disk under load, $run, $ring ring, io $io", ({ io, ...mode }) => {
  const formats = [{}, { packed: true }, { policy: "linux" as const }, { workers: 2 }];

  test.each(formats)("what is written is read back: %o", async ({ policy, workers, ...format }) => {
    const process = new Kernel().spawn({ memoryBytes: 16 << 20 });
    const spec = blk({ file: makeFile(64 * 4096), queues: 2, io });
    const options = { ...(policy && { policy }), ...(workers && { workers }) };
    const disk = await process.open(spec, { ...mode, ...options });
    const run = <T>(work: Promise<T>) => (mode.run === "inline" ? pump(disk, work) : work);
    const drive = await disk.driver({ queueSize: 16, ...format });
    const { host, guestStart, guestBytes } = disk.dev.sharedMemory;
    const whole = {
      guestAddress: GUEST_BASE,
      sizeBytes: BigInt(guestBytes),
      linearAddress: guestStart,
    };
    const far = { guestAddress: FAR, sizeBytes: 4096n, linearAddress: guestStart + 8192 };
    let isOver = false;
    const lane = async (block: number) => {
      for (let number = 0; !isOver; number++) {
        const bytes = pattern(4096, number * 64 + block);
        await drive.write(block * 4096, bytes);
        expect(Buffer.compare(await drive.read(block * 4096, 4096), bytes)).toBe(0);
      }
    };
    const free = host.freeBytes;
    const change = async () => {
      for (let round = 0; round < 40; round++) {
        const tables = [[whole], halves(whole), [far, whole]];
        await disk.dev.updateMemTable(tables[round % 3] ?? []);
        await nextTurn();
      }
      isOver = true;
    };
    const lanes = Array.from({ length: 20 }, (_, block) => lane(block));
    await run(Promise.all([change(), ...lanes]));
    expect(disk.errorCounts()).toEqual({});
    await run(disk.dev.updateMemTable([whole]));
    expect(host.freeBytes).toBe(free);
    await process.exit();
  });
});

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("a table without a ring's areas is refused, and the old one stays", async () => {
    await using guest = await RawGuest.open(custom("echo"), mode);
    const { ring, whole, dev } = guest;
    const before = guest.shared.host.freeBytes;
    const elsewhere = { ...whole, guestAddress: FAR };
    await rejected("EFAULT", dev.updateMemTable([elsewhere]));
    await rejected("EINVAL", dev.updateMemTable([whole, whole]));
    expect(guest.shared.host.freeBytes).toBe(before);
    expect((await ring.request([Uint8Array.of(7), 1])).written).toEqual(Buffer.of(7));
  });

  test("a buffer in a region that has gone is an error, and its ring goes on", async () => {
    await using guest = await RawGuest.open(custom("echo"), mode);
    const { ring, whole, dev } = guest;
    const shadow = { ...whole, guestAddress: FAR };
    await dev.updateMemTable([whole, shadow]);
    const desc = guest.describe(Uint8Array.of(1));
    const moved = { ...desc, addr: desc.addr - GUEST_BASE + FAR };
    const send = async () => {
      ring.send(ring.link([moved]));
      await ring.next();
    };
    await send();
    expect(guest.errors()).toEqual({});
    await dev.updateMemTable([whole]);
    await send();
    expect(guest.errors()).toEqual({ VRING_E_ADDRESS: 1 });
    expect((await ring.request([Uint8Array.of(7), 1])).written).toEqual(Buffer.of(7));
  });

  test("a device that does not settle is told, and its other ring goes on", async () => {
    await using guest = await RawGuest.open(custom("unsettled"), { ...mode, queues: 2 });
    const free = guest.shared.host.freeBytes;
    await expect(guest.dev.updateMemTable([guest.whole])).rejects.toThrow("it does not settle");
    expect(guest.shared.host.freeBytes).toBe(free);
    const [, other] = guest.rings as [GuestRing, GuestRing];
    expect((await other.request([Uint8Array.of(7), 1])).written).toEqual(Buffer.of(7));
  });

  test("of a device that is stopped: for its next start", async () => {
    await using guest = await RawGuest.open(custom("echo"), mode);
    const { ring, whole, dev } = guest;
    await dev.stop();
    await dev.updateMemTable(halves(whole));
    await dev.start();
    expect((await ring.request([Uint8Array.of(7), 1])).written).toEqual(Buffer.of(7));
  });
});

test("the worker dies meanwhile: told, nothing hangs", async () => {
  const guest = await RawGuest.open(custom("echo"));
  const { whole } = guest;
  const updates = Array.from({ length: 20 }, () => guest.dev.updateMemTable([whole]));
  const settled = Promise.allSettled(updates);
  await guest.dev.worker.task.task.thread?.terminate(new Error("killed"));
  await settled;
  await rejected("ENODEV", guest.dev.updateMemTable([whole]));
  await guest.process.exit();
});
