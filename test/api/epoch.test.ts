// A disk in each epoch: the worker is real, and so is its end.

import { describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { SIGKILL } from "#dist/spec/sched.js";
import { rejected } from "../helpers/devices.js";

describe.each(["v6.4-merge", "v6.4", "v6.12"] as const)("%s", (epoch) => {
  test("a disk works", async () => {
    const kernel = new Kernel({ epoch });
    await using vmm = kernel.spawn({ comm: "vmm", rlimits: { NPROC: 4 }, cgroup: "/a" });
    await using disk = await vmm.open(blk({ memoryBytes: 1 << 20 }));
    const drive = await disk.driver();
    const bytes = new Uint8Array(512).fill(7);
    await drive.write(0, bytes);
    expect(await drive.read(0, 512)).toEqual(bytes);
    const names = kernel.ps().map(({ comm }) => comm);
    expect(names.includes(`vhost-${vmm.pid}`)).toBe(epoch === "v6.4-merge"); // threads have no line
    expect(vmm.task.signal.threads.size).toBe(epoch === "v6.4-merge" ? 1 : 2);
    expect(kernel.model.cgroup("/a").pidsCurrent).toBe(2);
  });

  test.each(["thread", "inline"] as const)("its owner is killed, run: %s", async (run) => {
    const kernel = new Kernel({ epoch });
    await using vmm = kernel.spawn();
    const disk = await vmm.open(blk({ memoryBytes: 1 << 20 }), { run });
    const drive = await disk.driver();
    const died = new Promise((resolve) => disk.onDeath(resolve));
    kernel.model.kill(vmm.pid, SIGKILL);
    await died;
    await rejected("ENODEV", drive.read(0, 512));
    await disk.close();
    expect(kernel.model.tasks()).toHaveLength(2);
  });
});
