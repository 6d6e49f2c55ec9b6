// What the machine of the scenario scripts says beyond the records that are kept: rules of user
// workers, each stated by what a program would see.

import { describe, expect, test } from "vitest";
import { ScriptError } from "#dist/conformance/machine/errors.js";
import { attempt, Machine, type Proc } from "#dist/conformance/machine/index.js";

function boot(epoch: "v6.4-merge" | "v6.4" | "v6.12" = "v6.12") {
  const machine = new Machine(epoch);
  const parent = machine.boot();
  return { machine, parent, main: parent.fork() };
}

const worker = (owner: Proc): number =>
  owner.tasks().find((tid) => owner.stat(tid).comm.startsWith("vhost-")) ?? 0;

/** A running device of `owner`, which `holder` has opened; kthread mode if asked. */
function run(holder: Proc, owner: Proc, fd: number, mode: 0 | 1 = 1) {
  const rings = holder.mapVsockRings();
  expect(owner.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", mode)).toBe("OK");
  expect(owner.ioctl(fd, "VHOST_SET_OWNER")).toBe("OK");
  expect(owner.startVsock(fd, 42, rings)).toBe("OK");
  return rings.tx;
}

describe("exec", () => {
  test("ends the worker; the descriptor stays, its owner is gone", () => {
    const { parent } = boot();
    const fd = parent.open("/dev/vhost-vsock");
    const owner = parent.fork();
    run(parent, owner, fd);
    owner.exec("other");
    expect([owner.tasks().length, owner.stat(owner.tid).comm]).toEqual([1, "other"]);
    expect(owner.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 })).toBe("EPERM");
    expect(owner.ioctl(fd, "VHOST_SET_OWNER")).toBe("EBUSY");
  });

  test("closes what is marked, and the device with it", () => {
    const { main, machine } = boot();
    const fd = main.open("/dev/vhost-vsock", "O_CLOEXEC");
    main.ioctl(fd, "VHOST_SET_OWNER");
    main.exec("other");
    expect(main.close(fd)).toBe("EBADF");
    expect([machine.devices.size, main.fdCount(main.tid)]).toEqual([0, 0]);
  });

  test("makes handlers the default again; ignored stays ignored", () => {
    const { main } = boot();
    main.sigaction("SIGUSR1", () => {});
    main.sigaction("SIGUSR2", "SIG_IGN");
    main.exec("other");
    expect(main.status(main.tid)).toMatchObject({ SigCgt: "0".repeat(16) });
    expect(main.kill(main.pid, "SIGUSR2")).toBe("OK");
    expect(main.isAlive).toBe(true);
    main.kill(main.pid, "SIGUSR1");
    expect(main.isAlive).toBe(false);
  });
});

describe("limits", () => {
  test("pids.max exempts nobody; its refusal is ENOMEM to SET_OWNER, EAGAIN to fork", () => {
    const { main } = boot();
    main.mkdir("/sys/fs/cgroup/a");
    main.write("/sys/fs/cgroup/a/cgroup.procs", 0);
    main.write("/sys/fs/cgroup/a/pids.max", 1);
    expect(main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER")).toBe("ENOMEM");
    expect(attempt(() => main.fork())).toBe("EAGAIN");
    expect(main.read("/sys/fs/cgroup/a/pids.events")).toBe("max 2");
  });

  test("threads-max exempts nobody either, kernel threads too", () => {
    const { main } = boot();
    const fd = main.open("/dev/vhost-vsock");
    while (main.nrThreads < 20) main.clone(["CLONE_VM"]);
    expect(main.setThreadsMax(20)).toBe("OK");
    expect(main.ioctl(fd, "VHOST_SET_OWNER")).toBe("ENOMEM");
    expect(main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0)).toBe("OK");
    expect(main.ioctl(fd, "VHOST_SET_OWNER")).toBe("ENOMEM");
    expect(main.setThreadsMax(21)).toBe("OK");
    expect(main.ioctl(fd, "VHOST_SET_OWNER")).toBe("OK");
    expect(main.setThreadsMax(19)).toBe("EINVAL");
  });

  test("a deadline task makes no worker without reset-on-fork", () => {
    const { main } = boot();
    const fd = main.open("/dev/vhost-vsock");
    main.schedSetscheduler(0, "SCHED_DEADLINE");
    expect(attempt(() => main.fork())).toBe("EAGAIN");
    expect(main.ioctl(fd, "VHOST_SET_OWNER")).toBe("ENOMEM");
    main.schedSetscheduler(0, "SCHED_DEADLINE", { resetOnFork: true });
    expect(main.ioctl(fd, "VHOST_SET_OWNER")).toBe("OK");
    expect(main.stat(worker(main)).policy).toBe(0);
  });
});

describe("cgroups", () => {
  test("a task is born in the group that is named, which counts and limits it", () => {
    const { main } = boot();
    main.mkdir("/sys/fs/cgroup/a");
    main.write("/sys/fs/cgroup/a/pids.max", 1);
    const clone = () => main.clone([], "SIGCHLD", "/sys/fs/cgroup/a");
    expect(main.cgroupOf(clone().tid)).toBe("0::/a");
    expect(attempt(clone)).toBe("EAGAIN");
    expect(main.read("/sys/fs/cgroup/a/pids.current")).toBe("1");
    expect(attempt(() => main.clone([], "SIGCHLD", "/sys/fs/cgroup/b"))).toBe("ENOENT");
  });

  test("one with a kernel thread is never frozen, an empty one is", () => {
    const { main } = boot();
    const frozen = () => main.read("/sys/fs/cgroup/a/cgroup.events").endsWith("frozen 1");
    main.mkdir("/sys/fs/cgroup/a");
    main.write("/sys/fs/cgroup/a/cgroup.freeze", 1);
    expect(frozen()).toBe(true);
    const fd = main.open("/dev/vhost-vsock");
    main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
    main.ioctl(fd, "VHOST_SET_OWNER");
    const kthread = main.processes().find((pid) => main.stat(pid).comm === `vhost-${main.tid}`);
    main.write("/sys/fs/cgroup/a/cgroup.procs", kthread ?? 0);
    expect(frozen()).toBe(false);
  });

  test("files that are not there, text that is not right", () => {
    const { main } = boot();
    main.mkdir("/sys/fs/cgroup/a");
    expect(main.mkdir("/sys/fs/cgroup/a")).toBe("EEXIST");
    expect(main.mkdir("/sys/fs/cgroup/b/c")).toBe("ENOENT");
    expect(main.write("/sys/fs/cgroup/pids.max", 1)).toBe("ENOENT");
    expect(main.write("/sys/fs/cgroup/a/pids.max", "-1")).toBe("EINVAL");
    expect(main.write("/sys/fs/cgroup/a/cgroup.freeze", 2)).toBe("ERANGE");
    expect(main.write("/sys/fs/cgroup/a/cgroup.kill", "x")).toBe("EINVAL");
    expect(main.write("/sys/fs/cgroup/a/cgroup.procs", 99999)).toBe("ESRCH");
    main.write("/sys/fs/cgroup/a/cgroup.procs", 0);
    expect(main.write("/sys/fs/cgroup/a/cgroup.subtree_control", "+memory")).toBe("EBUSY");
    expect(main.rmdir("/sys/fs/cgroup/a")).toBe("EBUSY");
    main.write("/sys/fs/cgroup/cgroup.procs", 0);
    expect(main.rmdir("/sys/fs/cgroup/a")).toBe("OK");
  });
});

describe("snapshot and live", () => {
  test("cwd, umask, handlers, oom_score_adj are live", () => {
    const { main } = boot();
    main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
    const tid = worker(main);
    main.chdir("/tmp");
    main.umask(0o77);
    main.sigaction("SIGUSR1", () => {});
    main.setOomScoreAdj(main.tid, 500);
    expect([main.cwd(tid), main.oomScoreAdj(tid)]).toEqual(["/tmp", 500]);
    expect(main.status(tid)).toMatchObject({ Umask: "0077", SigCgt: "0000000000000200" });
    expect(main.fdCount(tid)).toBe(0);
  });

  test("credentials, affinity are a snapshot", () => {
    const { main } = boot();
    main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
    const tid = worker(main);
    main.schedSetaffinity(0, [1]);
    main.setgid(7);
    main.setuid(20000);
    expect(main.status(main.tid)).toMatchObject({ Cpus_allowed_list: "1", Gid: "7 7 7 7" });
    expect(main.status(tid)).toMatchObject({ Cpus_allowed_list: "0-1", Uid: "0 0 0 0" });
    expect(main.status(main.tid).CapEff).toBe("0".repeat(16));
    expect(main.setuid(0)).toBe("EPERM");
  });
});

describe("kthread mode", () => {
  test("serves kicks when its owner is stopped, and after it has died", () => {
    const { parent } = boot();
    const fd = parent.open("/dev/vhost-vsock");
    const owner = parent.fork();
    const tx = run(parent, owner, fd, 0);
    const kthread = parent.processes().find((pid) => parent.stat(pid).comm.startsWith("vhost-"));
    parent.kill(owner.pid, "SIGSTOP");
    parent.sendPackets(tx);
    expect(tx.usedIdx).toBe(1);
    parent.kill(kthread ?? 0, "SIGKILL");
    parent.kill(owner.pid, "SIGKILL");
    expect(parent.wait(owner.pid)).toBe("signal 9");
    parent.sendPackets(tx);
    expect(tx.usedIdx).toBe(2);
    parent.close(fd);
    expect(attempt(() => parent.stat(kthread ?? 0))).toBe("ENOENT");
  });
});

describe("the owner's last thread leaves, and nobody else has the file", () => {
  test.each(["v6.4-merge", "v6.4", "v6.12"] as const)("%s: all is given back", (epoch) => {
    const { parent, machine } = boot(epoch);
    const owner = parent.fork();
    owner.ioctl(owner.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
    owner.exit(3);
    expect(parent.wait(owner.pid)).toBe("exit 3");
    expect(machine.devices.size).toBe(0);
  });
});

test("the owner dies while the file is open elsewhere: who goes on, by epoch", () => {
  const used = (["v6.4-merge", "v6.4", "v6.12"] as const).map((epoch) => {
    const { parent } = boot(epoch);
    const fd = parent.open("/dev/vhost-vsock");
    const owner = parent.fork();
    const tx = run(parent, owner, fd);
    parent.kill(owner.pid, "SIGKILL");
    parent.sendPackets(tx);
    return tx.usedIdx;
  });
  expect(used).toEqual([1, 1, 0]);
});

describe("what no program could do is a mistake of the script", () => {
  test("calls of the dead and the stopped, waits without end, ioctls that wait", () => {
    const { parent, main } = boot();
    const other = parent.fork();
    parent.kill(other.pid, "SIGSTOP");
    expect(() => other.fork()).toThrow(ScriptError);
    expect(() => parent.wait(main.pid)).toThrow(ScriptError);
    expect(parent.waitNoHang(main.pid)).toBe(0);
    const fd = main.open("/dev/vhost-vsock");
    const holder = main.fork();
    main.ioctl(fd, "VHOST_SET_OWNER");
    parent.kill(main.pid, "SIGSTOP");
    expect(() => holder.ioctl(fd, "VHOST_GET_FORK_FROM_OWNER", {})).toThrow(ScriptError);
    parent.kill(main.pid, "SIGKILL");
    expect(() => main.open("/dev/null")).toThrow(ScriptError);
  });

  test.each<[string, (main: Proc) => unknown, RegExp]>([
    ["an ioctl", (main) => main.ioctl(main.open("/dev/vhost-net"), "VHOST_SET_OWNR"), /_OWNR/],
    ["a signal", (main) => main.kill(main.pid, "SIGFOO" as "SIGHUP"), /no signal SIGFOO/],
    ["a limit", (main) => main.setrlimit("PROC" as "NPROC", 1), /no limit PROC/],
    ["a flag of clone", (main) => main.clone(["CLONE_ALL" as "CLONE_VM"]), /CLONE_ALL/],
    ["a flag of open", (main) => main.open("/dev/null", "O_SLOW"), /O_SLOW is no flag/],
    ["a policy", (main) => main.schedSetscheduler(0, "SCHED_X" as "SCHED_RR"), /SCHED_X/],
    ["a prctl", (main) => main.prctl("PR_X" as "PR_SET_KEEPCAPS", 1), /PR_X is not modelled/],
    [
      "an opcode",
      (main) => main.ioUringSubmit(main.ioUringSetup(), { opcode: "READ" as "IORING_OP_NOP" }),
      /READ is none of IORING_OP_NOP/,
    ],
    ["a read that waits", (main) => main.readBytes(main.pipe()[0]), /waits for ever/],
    ["an open that waits", (main) => main.mkfifo("/f") && main.open("/f", "O_RDONLY"), /\/f waits/],
    ["time that goes back", (main) => main.sleep(-1), /forwards/],
  ])("%s that there is not", (_, call, message) => {
    const { main } = boot();
    expect(() => call(main)).toThrow(ScriptError);
    expect(() => call(boot().main)).toThrow(message);
  });
});
