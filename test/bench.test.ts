import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { canServe, hasDaemon } from "#dist/bench/blk-peers.js";
import { canBenchDpdk } from "#dist/bench/net-dpdk-peers.js";
import type { Case } from "../bench/harness.js";
import type { Outcome } from "../bench/report.js";

// The benches at their smallest: they run to their end, and what they compare did the same work. No
// time is looked at.

const RUN = fileURLToPath(new URL("../dist/bench/run.js", import.meta.url));

/**
 * By then it hangs, in milliseconds. All benches together take half a minute of a core, and one
 * that is shared with others is had for a part of the time.
 */
const timeout = 300_000;

/** Runs the command line, which ends by itself: a thread left over would keep it alive. */
async function bench(...args: string[]): Promise<string> {
  const options = { timeout, maxBuffer: 1 << 24 };
  return (await promisify(execFile)(process.execPath, [RUN, "--smoke", ...args], options)).stdout;
}

/** The checksums that have to be equal. */
function sums({ measured, sameWork }: Case): number[] {
  return measured.filter(({ name }) => sameWork.includes(name)).map(({ checksum }) => checksum);
}

describe("npm run bench -- --smoke --json", () => {
  let cases: Case[];
  let targets: Outcome[];

  beforeAll(async () => {
    ({ cases, targets } = JSON.parse(await bench("--json")));
  }, timeout);

  test("every bench ran, with every implementation", () => {
    const names = (of: string) =>
      cases.filter((one) => one.bench === of).map((one) => one.measured.map(({ name }) => name));
    expect(new Set(names("ring").map(String))).toEqual(new Set(["wasm,ts,host"]));
    expect(names("ring")).toHaveLength(48);
    expect(names("threads").map(String)).toEqual(Array(2).fill("wasm,ts,MessagePort"));
    const formats = [
      "packed",
      "split",
      "packed in order",
      "split in order",
      "ts packed",
      "ts split",
    ];
    expect(names("formats").map(String)).toEqual(Array(12).fill(String(formats)));
    expect(names("formats-threads").map(String)).toEqual(Array(8).fill(String(formats)));
    const streams = ["vsock", "ts", "Unix socket", "MessagePort"];
    expect(names("vsock")).toEqual([streams, streams]);
    const workers = ["user worker", "kernel thread", "new Worker()"];
    const each = [workers, [...workers, "messages"], [...workers, "terminate"]];
    expect(names("workers")).toEqual(each);
    const layouts = ["1q 1w", "2q 1w", "2q 2w", "4q 1w", "4q 2w"];
    expect(names("queues")).toEqual([layouts, layouts]);
    expect(names("latency")).toEqual(Array(6).fill(["polling", "no polling"]));
    expect(names("net").slice(0, 3)).toEqual(Array(3).fill(["wasm", "ts"]));
    expect(names("net").slice(3, 4)).toEqual([["2 ports", "8 ports", "32 ports"]]);
    const toGuest = ["stages", "without"];
    const fromGuest = [...toGuest, "switch"];
    const burst = [fromGuest, fromGuest, toGuest, toGuest];
    expect(names("net").slice(4, 12)).toEqual([...burst, ...burst]);
    const dpdk = canBenchDpdk() ? [["vhost-wasm", "net_vhost"]] : [];
    expect(names("net").slice(12)).toEqual(dpdk);
    const beside = ["alone", "beside good", "beside tables"];
    expect(names("hostile")).toEqual([[...beside, "beside circles"], beside]);
    expect(names("cpu-max")).toEqual(Array(2).fill(["free", "at 20 %"]));
    const ways = ["inline, wasm", "inline, ts", "uring, wasm", "uring, ts"];
    expect(names("io").slice(0, 4).map(String)).toEqual(Array(4).fill("wasm,ts"));
    expect(names("io").slice(4)).toEqual([
      [...ways, "fs.promises"],
      [...ways, "fs.promises"],
      ["inline, wasm", "uring, wasm"],
    ]);
    const [inProcess, overVhostUser] = [names("blk").slice(0, 6), names("blk").slice(6)];
    expect(inProcess.map(String)).toEqual(Array(6).fill("wasm,ts,fs.promises"));
    expect(overVhostUser).toHaveLength(canServe() ? 4 : 0);
    const peers = ["vhost-wasm,null-co", "vhost-wasm,threads,io_uring"];
    const expected = hasDaemon() ? peers : ["vhost-wasm"];
    for (const one of overVhostUser) expect(expected).toContain(String(one));
  });

  test("those that do the same work have the same checksum, and not a trivial one", () => {
    for (const one of cases) {
      expect(sums(one)).toHaveLength(one.sameWork.length);
      expect(new Set(sums(one)).size, `${one.name}: ${sums(one)}`).toBe(1);
      expect(sums(one)[0], one.name).not.toBe(0);
    }
    const cycles = cases.filter(({ bench, facts }) => bench === "ring" && facts.part === "cycle");
    const distinct = new Set(cycles.map((one) => sums(one)[0]));
    expect(distinct.size).toBeGreaterThan(4); // another burst or another chain, another sum
  });

  test("every number is one", () => {
    for (const { name, measured } of cases) {
      for (const { nsPerItem, itemsPerSecond, timesSlower } of measured) {
        expect(
          [nsPerItem, itemsPerSecond, timesSlower].every((n) => n > 0),
          name,
        ).toBe(true);
      }
    }
  });

  test("every target is stated with its cases", () => {
    const compared = canServe() && hasDaemon() ? 1 : 0;
    expect(targets.map(({ least, of }) => [least, of])).toEqual([
      [1.3, 18],
      [2, 12],
      [1.3, 9],
      [1.3, 6],
      [10, 1],
      [5, 2],
      [4, 2 * compared],
      [3, compared],
      [1.5, compared],
    ]);
  });
});

test("prints where it was measured, the table, and each target", { timeout }, async () => {
  const text = await bench("threads");
  expect(text).toContain(`Node ${process.version}`);
  expect(text).toMatch(/wasm \/ MessagePort/);
  expect(text).toMatch(/^smoke {2}.* cases, /m);
  expect(text).not.toContain("not measured"); // what was not asked for
});
