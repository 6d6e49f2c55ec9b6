import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { pattern } from "../helpers/blk-raw.js";
import { missingFile, testWith } from "../helpers/skip.js";
import { liveThreads } from "../helpers/threads.js";
import { eventually, type Served } from "../helpers/vhost-user.js";
import { Serving } from "../helpers/vhost-user-child.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";
import { describeOwners, GID, serveOthers, startFront, UID } from "../helpers/vhost-user-owner.js";

const PIDS = "/sys/fs/cgroup/pids";

const commsOf = () => liveThreads().map(({ comm }) => comm);
const memfdMaps = () => readFileSync("/proc/self/maps", "utf8").match(/memfd:/g)?.length ?? 0;

describeOwners("vhost-user: a front-end is a process of the model", () => {
  test("with its pid, user, group, name; its worker belongs to it", async () => {
    await using served = await serveOthers();
    await using child = startFront();
    const { pid } = child.child;
    await child.next("ready");
    child.say(`connect ${served.path}`);
    expect(await child.next("connected")).toMatchObject({ served: [true] });
    const worker = `vhost-${pid}`.slice(0, 15);
    expect(await served.next("connected")).toMatchObject({
      pid,
      uid: UID,
      gid: GID,
      comm: "front-vm",
      worker,
    });
    const task = served.kernel.task(pid as number);
    expect(task?.cred).toMatchObject({ uid: UID, gid: GID });
    expect(task?.comm).toBe("front-vm");
    const workers = served.kernel.tasks().filter((one) => one.comm === worker);
    expect(workers).toHaveLength(1);
    expect(workers[0]?.cred).toMatchObject({ uid: UID, gid: GID });
    expect(commsOf().filter((comm) => comm === worker)).toHaveLength(1);
    expect(served.kernel.ucounts.nproc(UID)).toBe(2);
    child.say("close");
    await served.next("disconnected");
    await eventually(() => served.kernel.tasks().length === 2, "both gone");
    expect(served.kernel.ucounts.nproc(UID)).toBe(0);
    await eventually(() => !commsOf().includes(worker), "the thread gone");
  });

  testWith(missingFile(PIDS), "in its control group", async () => {
    const group = `vhost-wasm-test-${process.pid}`;
    mkdirSync(join(PIDS, group));
    try {
      await using served = await serveOthers();
      await using child = startFront();
      await child.next("ready");
      writeFileSync(join(PIDS, group, "cgroup.procs"), String(child.child.pid));
      child.say(`connect ${served.path}`);
      const { pid } = await served.next("connected");
      expect(served.kernel.task(pid)?.cgroup.path).toBe(`/${group}`);
      expect(served.kernel.cgroup(`/${group}`).pidsCurrent).toBe(2);
      child.say("quit");
      await child.end();
      await served.next("disconnected");
    } finally {
      await eventually(() => readFileSync(join(PIDS, group, "tasks"), "utf8") === "", "empty");
      rmdirSync(join(PIDS, group));
    }
  });

  test("two connections are one process with two workers, its memory mapped once", async () => {
    await using one = await serveOthers();
    await using two = await serveOthers({ kernel: one.kernel });
    const maps = memfdMaps();
    await using child = startFront();
    await child.next("ready");
    child.say(`share ${one.path} ${two.path}`);
    for (let i = 0; i < 2; i++) expect(await child.next("shared")).toMatchObject({ status: 0 });
    const { pid, worker } = await two.next("connected");
    expect((await one.next("connected")).pid).toBe(pid);
    const tasks = one.kernel.tasks();
    expect(tasks.filter(({ cred }) => cred.uid === UID)).toHaveLength(3);
    expect(tasks.filter(({ comm }) => comm === worker)).toHaveLength(2);
    expect(commsOf().filter((comm) => comm === worker)).toHaveLength(2);
    expect(memfdMaps()).toBe(maps + 1);
    await one.server.close();
    expect(memfdMaps()).toBe(maps + 1);
    expect(one.kernel.task(pid)?.comm).toBe("front-vm");
    child.child.kill("SIGKILL");
    await two.next("disconnected");
    await eventually(() => one.kernel.tasks().length === 2, "all gone");
    expect(memfdMaps()).toBe(maps);
  });

  test("its limit of processes holds for its workers", async () => {
    await using one = await serveOthers();
    await using two = await serveOthers({ kernel: one.kernel });
    await using child = startFront();
    await child.next("ready");
    const limit = async (count: number) => {
      child.say(`limit ${count}`);
      expect(await child.next("limited")).toMatchObject({ result: 0 });
    };
    const connect = async (...served: Served[]) => {
      child.say(`connect ${served.map(({ path }) => path).join(" ")}`);
      return (await child.next("connected")).served;
    };
    await limit(1);
    expect(await connect(one)).toEqual([false]);
    expect((await one.next("rejected")).error.code).toBe("EAGAIN");
    expect(one.kernel.tasks()).toHaveLength(2);
    await limit(2);
    expect(await connect(one, two)).toEqual([true, false]);
    expect((await two.next("rejected")).error.code).toBe("EAGAIN");
    await limit(3);
    // the process of the model was made under the limit of its first connection
    child.say("close");
    await one.next("disconnected");
    await eventually(() => one.kernel.tasks().length === 2, "all gone");
    expect(await connect(one, two)).toEqual([true, true]);
  });

  test("one of another pid namespace is served, in a process that nobody shares", async () => {
    const under = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    await using serving = await Serving.start(2, {}, { under });
    const { program } = serving;
    const fronts: FrontEnd[] = [];
    const pids: unknown[] = [];
    for (const path of serving.paths) {
      const front = new FrontEnd(path);
      fronts.push(front);
      await front.negotiate(~0n);
      await front.setMemory();
      const drive = new FrontDisk(front, await front.startQueue(0, 8));
      await drive.write(0, pattern(512));
      const { pid, uid, comm } = await program.next("connected");
      expect({ uid, comm }).toEqual({ uid: 0, comm: "front-end" });
      pids.push(pid);
    }
    expect(pids[0]).not.toBe(pids[1]);
    for (const front of fronts) front.close();
    program.say("close");
    await program.next("closed");
    expect(await program.end()).toBe(0);
  });
});
