// `vhost-wasm explain workers`, held against what a real kernel 6.12 did with both kinds.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";

const cli = (...args: string[]) =>
  promisify(execFile)(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args]);

const MERGE = "v6.4-merge";
const runs = new Map<string, ReturnType<typeof run>>();

let table: Promise<string> | undefined;
/** What it prints by default: the merge's, as a table. */
function printed(): Promise<string> {
  table ??= cli("explain", "workers").then(({ stdout }) => stdout);
  return table;
}

/** Each property's two values, by name: of one run for each epoch. */
function contrasts(epoch: string): ReturnType<typeof run> {
  const seen = runs.get(epoch) ?? run(epoch);
  runs.set(epoch, seen);
  return seen;
}

async function run(epoch: string): Promise<Map<string, [string, string]>> {
  if (epoch === MERGE) return rowsOf(await printed());
  const { stdout, stderr } = await cli("explain", "workers", "--json", "--epoch", epoch);
  expect(stderr).toBe("");
  const said = JSON.parse(stdout);
  expect(said.epoch).toBe(epoch);
  return new Map(
    said.rows.map(({ property, userWorker, kthread }: Record<string, string>) => {
      return [property, [userWorker, kthread]];
    }),
  );
}

/** Of a table, between its lines. */
function rowsOf(text: string): Map<string, [string, string]> {
  const cells = text.split("\n").map((line) => line.split("│").map((cell) => cell.trim()));
  return new Map(cells.map(([, name = "", user = "", kthread = ""]) => [name, [user, kthread]]));
}

const KTHREAD_ALONE = [
  ["what it is", "a process, child of kthreadd"],
  ["flags", "0x208040 PF_KTHREAD"],
  ["user, effective capabilities", "uid 0, 41 capabilities"],
  ["RLIMIT_NPROC that it shows", "16384; 16384 when the owner's becomes 7"],
  ["tasks of its owner's user, with it", "1: it is not counted"],
  ["made where RLIMIT_NPROC is reached", "made"],
  ["made where pids.max (1) is reached", "made; pids.current 2"],
  ["made where threads-max is reached", "EAGAIN"],
  ["made after unshare(CLONE_NEWPID)", "made"],
  ["a further worker (VHOST_NEW_WORKER)", "EFAULT"],
  ["cgroup", "/tenant; /tenant when its owner moves to /other"],
  ["CPU time is charged to", "its owner's cgroup"],
  ["memory", "none of its own; borrows its owner's"],
  ["nice, made by an owner of nice 5", "0"],
  ["traced by root (PTRACE_ATTACH)", "EPERM"],
  ["its owner is stopped (SIGSTOP)", "runs; a read is served"],
  ["its owner's cgroup is frozen", "runs; a read is served"],
  ["SIGTERM to the worker", "dropped"],
  ["SIGKILL to the worker", "its owner lives; a read is served"],
  ["its owner is killed, another has the disk open", "lives; a read is served"],
  ["the disk is closed", "ends, and is reaped"],
];

const USER_WORKER: Record<string, [string, string][]> = {
  "v6.4-merge": [
    ["what it is", "a process, child of its owner"],
    ["listed by ps(1)", "a line of its own"],
    ["RLIMIT_NPROC that it shows", "8; 8 when the owner's becomes 7"],
    ["made after unshare(CLONE_NEWPID)", "made"],
    ["cgroup", "/tenant; /tenant when its owner moves to /other"],
    ["CPU time is charged to", "its owner's cgroup"],
    ["SIGTERM to the worker", "dropped"],
    ["SIGKILL to the worker", "its owner lives; a read is served"],
    ["its owner is killed, another has the disk open", "lives; a read is served"],
  ],
  "v6.4": [
    ["what it is", "a thread of its owner"],
    ["SIGKILL to the worker", "its owner is killed; a read fails: ENODEV"],
    ["its owner is killed, another has the disk open", "lives; a read is served"],
  ],
  "v6.12": [
    ["what it is", "a thread of its owner"],
    ["comm", "vhost-3"],
    ["flags", "0x4040 PF_USER_WORKER"],
    ["user, effective capabilities", "uid 1000, 0 capabilities"],
    ["RLIMIT_NPROC that it shows", "8; 7 when the owner's becomes 7"],
    ["tasks of its owner's user, with it", "2"],
    ["made where RLIMIT_NPROC is reached", "EAGAIN"],
    ["made where pids.max (1) is reached", "EAGAIN; pids.current 1"],
    ["made where threads-max is reached", "EAGAIN"],
    ["made after unshare(CLONE_NEWPID)", "EINVAL"],
    ["a further worker (VHOST_NEW_WORKER)", "made"],
    ["cgroup", "/tenant; /other when its owner moves to /other"],
    ["CPU time is charged to", "its owner's cgroup and its owner's process"],
    ["memory", "its owner's"],
    ["open files", "none"],
    ["nice, made by an owner of nice 5", "5"],
    ["traced by root (PTRACE_ATTACH)", "allowed; halted; a read waits"],
    ["its owner is stopped (SIGSTOP)", "halted; a read waits"],
    ["its owner's cgroup is frozen", "halted; a read waits"],
    ["SIGTERM to the worker", "stays pending"],
    ["SIGKILL to the worker", "its owner is killed; a read fails: ENODEV"],
    ["its owner is killed, another has the disk open", "ends; a read fails: ENODEV"],
  ],
};

describe("vhost-wasm explain workers", { timeout: 120_000 }, () => {
  test.each(Object.keys(USER_WORKER))("sees what Linux %s does", async (epoch) => {
    const seen = await contrasts(epoch);
    for (const [name, value] of USER_WORKER[epoch] ?? [])
      expect([name, seen.get(name)?.[0]]).toEqual([name, value]);
    for (const [name = "", value] of KTHREAD_ALONE)
      expect([name, seen.get(name)?.[1]]).toEqual([name, value]);
  });

  test("is what README.md says of it", async () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    const [, after = ""] = readme.split("### A worker that is its owner's");
    const [section = ""] = after.split("\n## ");
    const rows = [...section.matchAll(/^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)];
    const seen = await contrasts("v6.12");
    const told = rows.filter(([, name = ""]) => name.trim() !== "");
    expect(told.length).toBeGreaterThan(5);
    for (const [, name = "", ...values] of told)
      expect([name, seen.get(name)]).toEqual([name, values]);
    expect(section).toContain(`each of ${seen.size} properties`);
  });

  test("prints a table, by default of the merge", async () => {
    const text = await printed();
    expect(text).toMatch(/PROPERTY +│ USER WORKER +│ KERNEL THREAD/);
    expect(text).toMatch(/flags +│ 0x4040 PF_USER_WORKER +│ 0x208040 PF_KTHREAD/);
    expect(text).toMatch(/\nv6\.4-merge: 1\d of 24 properties differ\.\n$/);
  });

  test.each([
    [["explain", "devices"], /^error: .*Allowed choices are workers/],
    [["explain", "workers", "--epoch", "v5"], /^error: .*v6\.4-merge, v6\.4, v6\.12/],
  ])("says in a line what is wrong with %j", async (args, line) => {
    const failure = await cli(...args).catch((error) => error);
    expect(failure).toMatchObject({ code: 1, stderr: expect.stringMatching(line) });
  });

  test("has help that names its options and epochs", async () => {
    const { stdout } = await cli("explain", "--help");
    for (const word of ["--json", "--epoch", "v6.12", "kthread"]) expect(stdout).toContain(word);
  });
});
