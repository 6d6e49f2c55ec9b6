import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { type BlkOptions, blk } from "#dist/devices/blk.js";
import type { ServeOptions } from "#dist/vhost-user/server.js";
import { ROOT } from "../helpers/source.js";
import {
  describeVhostUser,
  eventually,
  expectGivenBack,
  Served,
  warmUp,
} from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";

const UID = 65534;
const GID = 65533;
const GROUP = 64321;
const IMAGE_BYTES = 1 << 20;
const PIDS = "/sys/fs/cgroup/pids";
const isRoot = process.getuid?.() === 0;
const title = isRoot ? "vhost-user owners" : "vhost-user owners (skipped: needs root)";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
chmodSync(folder, 0o755);

/** A front-end of another user. */
const front = (env: Record<string, string> = {}) =>
  Program.script("vhost-user-front.mjs", [], {
    uid: UID,
    gid: GID,
    env: { ...process.env, ...env },
  });

/** Serves where others may connect. */
async function serve(options: Partial<ServeOptions> = {}): Promise<Served> {
  const served = await Served.start(options);
  chmodSync(served.folder, 0o755);
  chmodSync(served.path, 0o777);
  return served;
}

/** An image of that mode, of root and a group. */
function image(name: string, mode: number, gid = 0): string {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(IMAGE_BYTES).fill(0x42));
  chownSync(path, 0, gid);
  chmodSync(path, mode);
  return path;
}

const commsOf = () =>
  readdirSync("/proc/self/task").map((tid) =>
    readFileSync(`/proc/self/task/${tid}/comm`, "utf8").trim(),
  );
const memfdMaps = () => readFileSync("/proc/self/maps", "utf8").match(/memfd:/g)?.length ?? 0;

describe.skipIf(!isRoot)(title, () => {
  describeVhostUser("a front-end is a process of the model", () => {
    test("with its pid, user, group, name; its worker belongs to it", async () => {
      await using served = await serve();
      await using child = front();
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

    test.skipIf(!statSync(PIDS, { throwIfNoEntry: false }))("in its control group", async () => {
      const group = `vhost-wasm-test-${process.pid}`;
      mkdirSync(join(PIDS, group));
      try {
        await using served = await serve();
        await using child = front();
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
      await using one = await serve();
      await using two = await serve({ kernel: one.kernel });
      const maps = memfdMaps();
      await using child = front();
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
      await using one = await serve();
      await using two = await serve({ kernel: one.kernel });
      await using child = front();
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
  });

  describeVhostUser("asOwner: images are opened with the front-end's rights", () => {
    const tryImage = async (
      path: string,
      options: Partial<BlkOptions> = {},
      args: string[] = [],
    ) => {
      const device = blk({ file: path, ...options } as BlkOptions);
      await using served = await serve({ device, asOwner: true });
      await using child =
        args.length === 0
          ? front()
          : new Program("setpriv", [
              ...args,
              process.execPath,
              fileURLToPath(new URL("../helpers/vhost-user-front.mjs", import.meta.url)),
            ]);
      await child.next("ready");
      child.say(`connect ${served.path}`);
      await child.next("connected");
      const event = served.events.find(({ event }) => /connected|rejected/.test(event));
      return event?.event === "rejected" ? event.error.code : event?.event;
    };

    test("what only root may read is refused, and is not read", async () => {
      expect(await tryImage(image("secret", 0o600))).toBe("EACCES");
      expect(await tryImage(image("secret", 0o600), { readOnly: true })).toBe("EACCES");
      expect(await tryImage(image("readable", 0o644))).toBe("EACCES"); // not for writing
    });

    test("what it may open works", async () => {
      expect(await tryImage(image("open", 0o666))).toBe("connected");
      expect(await tryImage(image("readable", 0o644), { readOnly: true })).toBe("connected");
    });

    test("its groups count, and no group of ours does", async () => {
      const path = image("of-a-group", 0o660, GROUP);
      const as = (groups: string) => [`--reuid=${UID}`, `--regid=${GID}`, groups];
      expect(await tryImage(path, {}, as(`--groups=${GROUP}`))).toBe("connected");
      expect(await tryImage(path, {}, as("--clear-groups"))).toBe("EACCES");
      expect(await tryImage(image("of-root", 0o660, 0), {}, as("--clear-groups"))).toBe("EACCES");
      expect(
        await tryImage(path, {}, [`--reuid=${UID}`, `--regid=${GROUP}`, "--clear-groups"]),
      ).toBe("connected");
    });

    test("without it, images are opened in the program's name", async () => {
      await using served = await serve({ device: blk({ file: image("secret", 0o600) }) });
      await using child = front();
      await child.next("ready");
      child.say(`connect ${served.path}`);
      expect(await child.next("connected")).toMatchObject({ served: [true] });
    });

    test("the program itself may lie where the front-end can't read", async () => {
      const home = join(folder, "home");
      mkdirSync(home, { mode: 0o700 });
      for (const name of ["dist", "package.json"]) {
        cpSync(join(ROOT, name), join(home, name), { recursive: true });
      }
      symlinkSync(join(ROOT, "node_modules"), join(home, "node_modules"));
      const socket = join(folder, "socket");
      const args = ["serve", "blk", "--socket", socket, "--log", "json", "--as-owner"];
      const main = join(home, "dist/cli/main.js");
      const path = image("open", 0o666);
      await using program = new Program(process.execPath, [main, ...args, "--image", path]);
      await program.next("listening");
      chmodSync(socket, 0o777);
      await using child = front();
      await child.next("ready");
      child.say(`io ${socket}`);
      expect(await child.next("flushed")).toMatchObject({ ok: true });
      program.child.kill("SIGINT");
      expect(await program.end()).toBe(0);
    });
  });

  describeVhostUser("kill -9", () => {
    test("in the midst of I/O, ten times: nothing is left, nothing acknowledged is lost", async () => {
      const path = image("disk", 0o666);
      await using served = await serve({ device: blk({ file: path }), asOwner: true });
      const before = await warmUp(served);
      const acknowledged = new Map<number, number>();
      for (let round = 0; round < 10; round++) {
        await using child = front({ FIRST: String(round * 100_003) });
        await child.next("ready");
        const isOther = (one: (typeof child.lines)[number]) => one.event === "flushed";
        child.say(`io ${served.path}`);
        await eventually(() => child.lines.filter(isOther).length > 30 + round * 7, "some I/O");
        child.child.kill("SIGKILL");
        await child.end();
        await served.next("disconnected");
        expect(served.events.at(-1)).not.toHaveProperty("error");
        await expectGivenBack(served.kernel, before);
        const flushed = child.lines.filter(isOther).map(({ number, ok }) => {
          expect(ok).toBe(true);
          return number as number;
        });
        for (const number of flushed) acknowledged.set(number % 256, number);
        const disk = readFileSync(path);
        for (const [block, number] of acknowledged) {
          const words = new Uint32Array(disk.buffer, disk.byteOffset + block * 4096, 1024);
          const found = (words[0] as number) - 1; // that, or one which came after it, whole
          expect(found).toBeGreaterThanOrEqual(number);
          expect(found % 256).toBe(block);
          expect(words.every((word) => word === words[0])).toBe(true);
        }
      }
      await served.works();
    }, 120_000);
  });
});
