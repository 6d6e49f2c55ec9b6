// What a vhost worker is in each epoch, row by row.

import { describe, expect, test } from "vitest";
import type { Epoch } from "#dist/kernel/epoch.js";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { fdInstall, OpenFile } from "#dist/kernel/files.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { doPrlimit } from "#dist/kernel/rlimit.js";
import { vhostTaskCreate, vhostTaskStart, vhostTaskStop } from "#dist/kernel/vhost-task.js";
import { SIGKILL } from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

/** An owner, child of a process that waits for it, and its worker, which an open file holds. */
function boot(epoch: Epoch) {
  const kernel = new Kernel({ epoch });
  const shell = kernel.spawn({ cgroup: "/a", memoryBytes: 65536 });
  const owner = copyProcess(kernel, shell, { flags: 0, exitSignal: 17 });
  const vtsk = vhostTaskCreate(kernel, owner, { name: `vhost-${owner.pid}`, run: "inline" });
  vhostTaskStart(vtsk);
  const file = new OpenFile(() => void vhostTaskStop(vtsk));
  if (owner.files) fdInstall(owner.files, file);
  return { kernel, shell, owner, vtsk, worker: vtsk.task, file };
}

describe.each(["v6.4-merge", "v6.4", "v6.12"] as const)("%s", (epoch) => {
  const isThread = epoch !== "v6.4-merge";

  test("worker is a child or a thread of its owner", () => {
    const { owner, worker, shell } = boot(epoch);
    expect(worker.tgid).toBe(isThread ? owner.pid : worker.pid);
    expect(worker.parent).toBe(isThread ? shell : owner);
    expect(worker.cred === owner.cred).toBe(isThread);
    expect(worker.exitSignal).toBe(isThread ? -1 : 0);
    expect(worker.files).toBeNull();
  });

  test("limits are live in a thread, a copy in a child", () => {
    const { owner, worker } = boot(epoch);
    doPrlimit(owner, owner, "NPROC", { cur: 77, max: 88 });
    expect(worker.signal.rlimits.NPROC.cur === 77).toBe(isThread);
  });

  test("the owner is killed while another process holds the file", () => {
    const { kernel, shell, owner, worker, vtsk, file } = boot(epoch);
    file.count++; // a second holder
    kernel.kill(owner.pid, SIGKILL);
    const lives = epoch !== "v6.12";
    expect(worker.exitState === 0).toBe(lives);
    // A zombie with a live thread cannot be waited for.
    expect(kernelWait4(kernel, shell, owner.pid)).toBe(epoch === "v6.4" ? null : SIGKILL);
    file.put();
    expect(kernel.task(worker.pid)).toBeUndefined();
    if (epoch === "v6.4") expect(kernelWait4(kernel, shell, owner.pid)).toBe(SIGKILL);
    expect(kernel.tasks()).toEqual([kernel.init, kernel.kthreadd, shell]);
    return vhostTaskStop(vtsk);
  });

  test("SIGKILL to the worker", () => {
    const { kernel, owner, worker } = boot(epoch);
    kernel.kill(worker.pid, SIGKILL);
    expect(owner.exitState === 0).toBe(!isThread);
  });

  test("the last close ends the worker", () => {
    const { kernel, owner, worker, file } = boot(epoch);
    file.put();
    expect(kernel.task(worker.pid)).toBeUndefined();
    expect(owner.signal.threads.size).toBe(1);
    expect(kernel.cgroup("/a").pidsCurrent).toBe(2);
  });
});

test("an epoch that is none", () => {
  refused("EINVAL", () => new Kernel({ epoch: "toString" as Epoch }));
});

test("the leader exits, the worker goes on, SIGKILL names the end", () => {
  const { kernel, shell, owner, worker, file } = boot("v6.12");
  file.count++;
  kernel.exitTask(owner, 0);
  expect(worker.exitState).toBe(0);
  expect(kernelWait4(kernel, shell, owner.pid)).toBeNull();
  kernel.kill(owner.pid, SIGKILL);
  expect(kernelWait4(kernel, shell, owner.pid)).toBe(SIGKILL);
});
