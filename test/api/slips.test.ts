// Slips of the pen in the API: each is told, by a sentence that says what is wanted.

import { describe, expect, test } from "vitest";
import { blk, ioctl, iotlbUpdate, Kernel, openVhost, vhostIoctl } from "#dist/index.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import { custom, rejected } from "../helpers/devices.js";
import { refused } from "../helpers/kernel-counts.js";

const memoryBytes = 1 << 20;
const NODE = "/dev/vhost-vsock";

/** The call as JavaScript has it, which no compiler looks at. */
// biome-ignore lint/suspicious/noExplicitAny: that is the point
const any = (value: unknown) => value as any;

describe("EINVAL, by name", () => {
  const kernel = new Kernel();
  const group = kernel.cgroup("/slips");
  const vmm = kernel.spawn({ memoryBytes });
  const slips: [string, () => unknown, RegExp][] = [
    ["a kernel's option", () => new Kernel(any({ epcoh: "v6.12" })), /no option epcoh/],
    ["options that are a string", () => new Kernel(any("v6.12")), /no option 0/],
    ["forkFromOwnerDefault", () => new Kernel(any({ forkFromOwnerDefault: "no" })), /true or fal/],
    ["an option of ps", () => kernel.ps(any({ thread: true })), /no option thread/],
    ["freeze by a string", () => (group.freeze = any("0")), /true or false/],
    ["cpu.max as a number", () => (group.cpuMax = any(20_000)), /quotaUs, periodUs/],
    ["cpu.max without a period", () => (group.cpuMax = any({ quotaUs: 20_000 })), /periodUs/],
    ["cpu.max of nothing", () => (group.cpuMax = any(null)), /quotaUs/],
    ["no path", () => any(kernel).cgroup(), /\/tenants\/a/],
    ["a group for a path", () => kernel.spawn({ cgroup: any(group), memoryBytes }), /a path/],
    ["a capability that there is not", () => kernel.spawn({ caps: [99], memoryBytes }), /0 to 40/],
    [
      "a capability by name",
      () => kernel.spawn({ caps: any(["CAP_KILL"]), memoryBytes }),
      /number/,
    ],
    ["a comm that is a number", () => kernel.spawn({ comm: any(5), memoryBytes }), /a string/],
    ["a limit in words", () => kernel.spawn({ rlimits: any({ NPROC: "4" }) }), /NPROC: a limit/],
    ["a limit of other names", () => kernel.spawn({ rlimits: any({ NPROC: { soft: 1 } }) }), /cur/],
    ["kill of a process", () => kernel.kill(any(kernel.spawn({ memoryBytes })), 9), /a pid/],
    ["kill by another name", () => kernel.kill(1, any("KILL")), /a signal/],
    ["openVhost of a machine", () => openVhost(any(kernel), vmm.task, NODE), /kernel\.model/],
    ["openVhost by a process", () => openVhost(kernel.model, any(vmm), NODE), /process\.task/],
    ["openVhost's option", () => openVhost(kernel.model, vmm.task, NODE, any({ ran: 1 })), / ran;/],
    [
      "openVhost's ring",
      () => openVhost(kernel.model, vmm.task, NODE, any({ ring: 1 })),
      /ring is/,
    ],
    ["openVhost's run", () => openVhost(kernel.model, vmm.task, NODE, any("inline")), /\{ run:/],
    ["a URL for a file", () => blk({ file: any(new URL("file:///x")) }), /a path, a string/],
  ];
  test.each(slips)("%s", (_, slip, message) => {
    expect(refused("EINVAL", slip).message).toMatch(message);
  });

  const REGION = "VHOST_SET_MEM_TABLE";
  const values: [string, string, object, RegExp][] = [
    ["a u64 below 0", "VHOST_SET_FEATURES", { value: -1n }, /^EINVAL: value .* not -1/],
    ["a u64 above its most", "VHOST_SET_FEATURES", { value: 2n ** 64n }, /value .* 184467440737/],
    ["a u64 in words", "VHOST_SET_FEATURES", { value: "1" }, /^EINVAL: value is a whole number/],
    ["half a u64", "VHOST_SET_FEATURES", { value: 0.5 }, /^EINVAL: value .* not 0.5/],
    ["no u64", "VHOST_SET_FEATURES", { value: undefined }, /^EINVAL: value .* not undefined/],
    ["a u32 above its most", "VHOST_SET_VRING_NUM", { index: 0, num: 2 ** 32 }, /num is .* 42949/],
    ["a region's address", REGION, { regions: [{ memory_size: -1n }] }, /memory_size is/],
    ["a field that there is not", REGION, { regions: [{ memory_sizes: 1n }] }, /no field memory_s/],
  ];
  test.each(values)("%s, by ioctl", async (_, name, value, message) => {
    const { fd } = openVhost(kernel.model, vmm.task, NODE, { run: "inline" });
    await expect(ioctl(vmm.task, fd, name, any(value))).rejects.toThrow(message);
  });

  test("an ioctl's argument that is no address", async () => {
    const { fd } = openVhost(kernel.model, vmm.task, NODE, { run: "inline" });
    for (const arg of [-1n, 2n ** 64n, 4096, undefined]) {
      await rejected("EINVAL", vhostIoctl(vmm.task, fd, 0xaf01, any(arg)));
    }
    for (const wrong of [{ iova: -1n }, { size: 2n ** 64n }, { uaddr: 7.5 }, { perm: 256 }]) {
      const mapping = { iova: 0n, size: 4096n, uaddr: 0n, perm: 3, ...wrong };
      const [name] = Object.keys(wrong);
      const message = new RegExp(`^EINVAL: ${name} is a whole number`);
      expect(() => iotlbUpdate(vmm.task, fd, any(mapping))).toThrow(message);
    }
  });

  test("open of what is no device", async () => {
    await using process = kernel.spawn({ memoryBytes });
    for (const spec of ["disk.img", { nullBytes: 512 }, undefined]) {
      await rejected("EINVAL", process.open(any(spec)));
    }
  });

  test("a limit that there is not", () => {
    expect(() => (any(group).cpumax = 1)).toThrow(TypeError);
    expect(() => (any(group)["pids.max"] = 1)).toThrow(TypeError);
  });
});

test("a signal has a name, too", async () => {
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes });
  kernel.kill(process.pid, "SIGKILL");
  refused("ESRCH", () => kernel.kill(process.pid, 0));
});

test("setRlimit holds for what is made next", async () => {
  const kernel = new Kernel();
  await using process = kernel.spawn({ uid: 1000, rlimits: { NPROC: 1 }, memoryBytes });
  const open = () => process.open(blk({ nullBytes: 512 }));
  await rejected("EAGAIN", open());
  process.setRlimit("NPROC", 2);
  await (await open()).close();
  process.setRlimit("NPROC", { cur: 1, max: 2 });
  await rejected("EAGAIN", open());
  refused("EINVAL", () => process.setRlimit(any("NPROCS"), 2));
  await process.exit();
  refused("ESRCH", () => process.setRlimit("NPROC", 2));
});

describe("a control group that is removed", () => {
  test("only when nothing is in it; then its path is a new one's", async () => {
    const kernel = new Kernel();
    const group = kernel.cgroup("/jobs/1");
    group.pidsMax = 5;
    const process = kernel.spawn({ cgroup: "/jobs/1", memoryBytes });
    refused("EBUSY", () => group.remove());
    refused("EBUSY", () => kernel.cgroup("/jobs").remove());
    refused("EBUSY", () => kernel.cgroup("/").remove());
    await process.exit();
    group.remove();
    group.remove();
    refused("ENODEV", () => (group.pidsMax = 5));
    expect(kernel.cgroup("/jobs/1").pidsMax).toBe(Number.POSITIVE_INFINITY);
  });

  test("one for each job, for more jobs than there may be groups", () => {
    const kernel = new Kernel();
    for (let job = 0; job < 70_000; job++) kernel.cgroup(`/jobs/${job}`).remove();
    const last = kernel.cgroup("/jobs/last");
    expect(last.cpuMax).toEqual({ quotaUs: Number.POSITIVE_INFINITY, periodUs: 100_000 });
    expect(last.cpuUsageUs).toBe(0);
  });
});

describe("why a device died", () => {
  test.each([
    [
      "its owner was killed",
      (kernel: Kernel, pid: number) => kernel.kill(pid, 9),
      /killed by signal 9/,
    ],
    ["its owner exited", (kernel: Kernel, pid: number) => void exit(kernel, pid, 3), /exited: 3/],
  ])("%s", async (_, end, why) => {
    const kernel = new Kernel({ epoch: "v6.12" });
    const process = kernel.spawn({ memoryBytes });
    const disk = await process.open(blk({ nullBytes: 512 }));
    const death = new Promise<Error>((resolve) => disk.onDeath(resolve));
    end(kernel, process.pid);
    expect((await death).message).toMatch(why);
    await disk.close();
  });

  test("it answers a kick by a promise", async () => {
    await using process = new Kernel().spawn({ memoryBytes });
    const device = await process.open(custom("kicksAsync"));
    const death = new Promise<Error>((resolve) => device.onDeath(resolve));
    const driver = await device.driver();
    await rejected("ENODEV", driver.request(0, new Uint8Array(1), 1));
    expect((await death).message).toMatch(/handleKick/);
  });
});

const exit = (kernel: Kernel, pid: number, code: number) => {
  const task = kernel.model.task(pid);
  if (task) kernel.model.exitTask(task, code << 8);
};

test("a driver of a stopped device comes; a request waits as long as one wants", async () => {
  const kernel = new Kernel({ epoch: "v6.12" });
  await using process = kernel.spawn({ memoryBytes });
  const disk = await process.open(blk({ nullBytes: 1 << 20 }));
  kernel.kill(process.pid, "SIGSTOP");
  const { pid } = disk.workerTask;
  const state = () => kernel.ps({ threads: true }).find((row) => row.pid === pid)?.state;
  await expect.poll(state).toBe("T");
  const drive = await disk.driver();
  const read = drive.read(0, 512, { signal: AbortSignal.timeout(50) });
  await expect(read).rejects.toThrow(/timeout/);
  kernel.kill(process.pid, "SIGCONT");
  expect((await drive.read(0, 512)).length).toBe(512);
  await disk.close();
});

test("a worker that is asked for while the device closes is not made", async () => {
  const kernel = new Kernel();
  await using process = kernel.spawn({ memoryBytes });
  const { dev, ...disk } = await process.open(blk({ nullBytes: 512 })).then((device) => ({
    dev: device.dev,
    close: () => device.close(),
  }));
  const closed = disk.close();
  await rejected("ENODEV", dev.newWorker());
  await closed;
  expect(kernel.model.tasks()).toHaveLength(3);
});

test("a process that exits takes all its threads along, io workers too", async () => {
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes });
  createIoThread(kernel.model, process.task, {});
  await process.exit();
  expect(kernel.model.tasks()).toHaveLength(2);
});
