// Misuse of the control interface is refused at the door, by name; what was there stays as it was.

import { beforeEach, describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import type { Process } from "#dist/loopback.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { VIRTIO_BLK_F_RO } from "#dist/spec/virtio-blk.js";
import { VhostDev } from "#dist/vhost/dev.js";
import { custom, rejected } from "../helpers/devices.js";
import { refused } from "../helpers/kernel-counts.js";
import { bit, VERSION_1 } from "../helpers/raw-guest.js";

const spec = blk({ nullBytes: 65536, queues: 2, queueSize: 64 });

let kernel: Kernel;
let process: Process;
let dev: VhostDev;
beforeEach(() => {
  kernel = new Kernel();
  process = kernel.spawn({ uid: 1000, memoryBytes: 2 << 20 });
  dev = new VhostDev(kernel.model, { run: "inline" });
});

/** Owner, back-end, memory table, and two queues in it. */
async function setUp(): Promise<void> {
  dev.setOwner(process.task);
  await dev.setBackend(spec);
  dev.setFeatures(VERSION_1);
  dev.setMemTable([whole()]);
  for (const index of [0, 1]) dev.setVringAddr(index, areas(index * 0x2000));
}

function whole() {
  const { guestStart, guestBytes } = dev.sharedMemory;
  return { guestAddress: GUEST_BASE, sizeBytes: BigInt(guestBytes), linearAddress: guestStart };
}

function areas(offset: number) {
  const at = GUEST_BASE + BigInt(offset);
  return { desc: at, driver: at + 0x800n, device: at + 0x1000n };
}

describe("before there is an owner", () => {
  test("EPERM for whatever needs one", async () => {
    for (const use of [() => dev.worker, () => dev.sharedMemory, () => dev.runPending()]) {
      refused("EPERM", use);
    }
    refused("EPERM", () => dev.setMemTable([]));
    await rejected("EPERM", dev.setBackend(spec));
    await rejected("EPERM", dev.start());
    await rejected("EPERM", dev.stop());
    await rejected("EPERM", dev.reset());
  });

  test("EPERM by rejection where a promise is given", async () => {
    await rejected("EPERM", dev.readConfig());
    await rejected("EPERM", dev.writeConfig(0, new Uint8Array(1)));
  });

  test("close has nothing to do", async () => {
    await dev.close();
    expect(kernel.model.ucounts.nproc(1000)).toBe(1);
  });
});

describe("one owner, for good", () => {
  test("a second one is EBUSY, the same or another, and no worker is made", async () => {
    dev.setOwner(process.task);
    const other = kernel.spawn({ uid: 1000 });
    expect(refused("EBUSY", () => dev.setOwner(other.task)).facts).toEqual({ pid: process.pid });
    refused("EBUSY", () => dev.setOwner(process.task));
    expect(kernel.model.ucounts.nproc(1000)).toBe(3);
    await dev.close();
  });

  test("nobody owns it after close", async () => {
    dev.setOwner(process.task);
    await dev.close();
    expect(() => dev.setOwner(process.task)).toThrow(/^(EBUSY|ENODEV)/);
    expect(kernel.model.ucounts.nproc(1000)).toBe(1);
  });

  test("a task without memory owns nothing: EINVAL; memory below 1 MiB too", () => {
    refused("EINVAL", () => dev.setOwner(kernel.model.kthreadd));
    const small = kernel.spawn({ uid: 1000, memoryBytes: 65536 });
    refused("EINVAL", () => dev.setOwner(small.task));
    dev.setOwner(process.task);
  });

  test("a process that has exited can't own: ESRCH or EINVAL, no worker", async () => {
    await process.exit();
    expect(() => dev.setOwner(process.task)).toThrow(/^(ESRCH|EINVAL)/);
    expect(kernel.model.ucounts.nproc(1000)).toBe(0);
  });
});

describe("one back-end", () => {
  test("a second one is EBUSY", async () => {
    dev.setOwner(process.task);
    await dev.setBackend(spec);
    await rejected("EBUSY", dev.setBackend(spec));
    expect(dev.info.queueCount).toBe(2);
  });

  test("also while the first is being made", async () => {
    dev.setOwner(process.task);
    const first = dev.setBackend(spec);
    await rejected("EBUSY", dev.setBackend(custom("plain")));
    await first;
    expect(dev.info.deviceId).toBe(2);
  });

  test("one that failed leaves room for another", async () => {
    dev.setOwner(process.task);
    await rejected("EIO", dev.setBackend(custom("createThrows")));
    refused("ENODEV", () => dev.info);
    refused("ENODEV", () => dev.setFeatures(0n));
    await dev.setBackend(spec);
  });
});

describe("features", () => {
  test("a bit that is not offered is EOPNOTSUPP, named; the rest stays", async () => {
    await setUp();
    const error = refused("EOPNOTSUPP", () => dev.setFeatures(VERSION_1 | bit(VIRTIO_BLK_F_RO)));
    expect(error.message).toContain("0x20");
    for (const number of [0, 31, 33, 36, 63, 127]) {
      refused("EOPNOTSUPP", () => dev.setFeatures(bit(number)));
    }
    dev.setFeatures(dev.offeredFeatures);
  });
});

describe("while started", () => {
  test("set-up is EBUSY, and the queues go on", async () => {
    await setUp();
    await dev.start();
    refused("EBUSY", () => dev.setFeatures(0n));
    refused("EBUSY", () => dev.setMemTable([whole()]));
    refused("EBUSY", () => dev.setVringNum(0, 3)); // EBUSY before EINVAL
    refused("EBUSY", () => dev.setVringAddr(0, areas(0)));
    refused("EBUSY", () => dev.setVringBase(0, -1));
    await rejected("EBUSY", dev.start());
    expect(dev.runPending()).toBe(true);
    await dev.stop();
    dev.setVringNum(0, 32);
  });
});

describe("queues", () => {
  test.each([2, -1, 0.5, Number.NaN, 2 ** 32])("queue %s of two: ENOBUFS", async (index) => {
    await setUp();
    refused("ENOBUFS", () => dev.setVringNum(index, 4));
    refused("ENOBUFS", () => dev.setVringAddr(index, areas(0)));
    refused("ENOBUFS", () => dev.setVringBase(index, 0));
    refused("ENOBUFS", () => dev.getVringBase(index));
  });

  test.each([0, 3, 65, 128, 65536, -64, 0.5, Number.NaN])("2.7: size %s: EINVAL", async (num) => {
    await setUp();
    refused("EINVAL", () => dev.setVringNum(0, num));
  });

  test("2.7: every power of two up to the device's is a size", async () => {
    await setUp();
    for (const num of [1, 2, 4, 8, 16, 32, 64]) dev.setVringNum(0, num);
  });

  test.each([-1, 65536, 0.5, Number.NaN])("base %s: EINVAL", async (base) => {
    await setUp();
    dev.setVringBase(0, 65535);
    refused("EINVAL", () => dev.setVringBase(0, base));
    expect(dev.getVringBase(0)).toBe(65535);
  });
});

describe("a start that can't be", () => {
  /** It must fail, keep nothing, and leave the device as ready as it was. */
  async function failsToStart(code: "EFAULT" | "EINVAL" | "ENOMEM"): Promise<void> {
    const { freeBytes } = dev.sharedMemory.host;
    await rejected(code, dev.start());
    expect(dev.sharedMemory.host.freeBytes).toBe(freeBytes);
  }

  test("no memory table: EINVAL", async () => {
    dev.setOwner(process.task);
    await dev.setBackend(spec);
    await failsToStart("EINVAL");
  });

  const end = (): bigint => GUEST_BASE + BigInt(dev.sharedMemory.guestBytes);
  const wrong: [string, () => bigint, "EFAULT" | "EINVAL"][] = [
    ["below the region", () => GUEST_BASE - 0x1000n, "EFAULT"],
    ["past the region", () => end(), "EFAULT"],
    ["partly past it", () => end() - 16n, "EFAULT"],
    ["at 0", () => 0n, "EFAULT"],
    ["past 2^64", () => 1n << 64n, "EFAULT"],
    ["misaligned", () => GUEST_BASE + 1n, "EINVAL"],
  ];
  test.each(wrong)("2.7: an area %s", async (_, address, code) => {
    await setUp();
    for (const area of ["desc", "driver", "device"] as const) {
      dev.setVringAddr(1, { ...areas(0x2000), [area]: address() }); // queue 0 is good
      await failsToStart(code);
    }
    dev.setVringAddr(1, areas(0x2000));
    await dev.start();
  });

  test("an area in a hole of the memory table: EFAULT", async () => {
    await setUp();
    const { guestAddress, linearAddress } = whole();
    const hole = { guestAddress: guestAddress + 0x3000n, linearAddress, sizeBytes: 0x10000n };
    dev.setMemTable([{ guestAddress, linearAddress, sizeBytes: 0x2800n }, hole]);
    await failsToStart("EFAULT");
  });

  test("no room for the state blocks: ENOMEM", async () => {
    await setUp();
    const { host } = dev.sharedMemory;
    const all = host.freeBytes;
    for (const left of [0, 8, 64, 300, 9000, 14000, 20000]) {
      const hog = host.alloc(all - left, 1);
      await failsToStart("ENOMEM");
      host.free(hog);
    }
    await dev.start();
  });

  test("a memory table that is refused leaves the old one", async () => {
    await setUp();
    refused("EINVAL", () => dev.setMemTable([whole(), whole()]));
    refused("EINVAL", () => dev.setMemTable([{ ...whole(), linearAddress: 65536 }]));
    await dev.start();
  });
});

test("stop before start, and twice, does nothing", async () => {
  await setUp();
  dev.setVringBase(0, 7);
  await dev.stop();
  await dev.start();
  await dev.stop();
  await dev.stop();
  expect(dev.getVringBase(0)).toBe(7);
});

test("reset forgets features, memory table and queues", async () => {
  await setUp();
  dev.setVringBase(0, 9);
  await dev.start();
  const { freeBytes } = dev.sharedMemory.host;
  await dev.reset();
  expect(dev.sharedMemory.host.freeBytes).toBeGreaterThan(freeBytes);
  await rejected("EINVAL", dev.start()); // no table
  expect(dev.getVringBase(0)).toBe(0);
  dev.setMemTable([whole()]);
  await dev.start(); // no queue has addresses: none is started
  expect(dev.runPending()).toBe(false);
});

test("runPending is for inline devices: EINVAL with a thread", async () => {
  const threaded = new VhostDev(kernel.model);
  threaded.setOwner(process.task);
  refused("EINVAL", () => threaded.runPending());
  await threaded.close();
});
