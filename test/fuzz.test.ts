// The fuzzer: a short run of each mode, the seeds that once found something, and that it does find
// what is wrong.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { CaseRunner, type RingMaker } from "#dist/fuzz/case.js";
import { loadRings } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import * as s from "#dist/spec/ring-state.js";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const seeds: number[] = JSON.parse(readFileSync(path("fuzz/seeds.json"), "utf8"));

/** A module that says so when its program has begun to listen for SIGINT. */
const TELLS_OF_SIGINT = `data:text/javascript,${encodeURIComponent(
  `process.on("newListener", (name) => {
    if (name === "SIGINT") setImmediate(() => process.stderr.write("it listens"));
  });`,
)}`;

/** Runs the command. */
function fuzz(args: string[], ...nodeArgs: string[]) {
  const child = spawn(process.execPath, [...nodeArgs, path("../dist/fuzz/main.js"), ...args]);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (text) => (stdout += text));
  child.stderr.on("data", (text) => {
    stderr += text;
    if (stderr === "it listens") child.kill("SIGINT");
  });
  return new Promise<{ status: number | null; stdout: string; stderr: string }>((resolve) => {
    child.once("close", (status) => resolve({ status, stdout, stderr }));
  });
}

describe("npm run fuzz", () => {
  test("three seconds, both rings: nothing found", async () => {
    const { status, stdout, stderr } = await fuzz(["--seconds", "3"]);
    console.log(stdout.trimEnd());
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^\d+ cases in [\d.]+ s, \d+ a second: wasm and ts\nseeds from \d+\n/);
    expect(stdout).toMatch(/ {2}VRING_E_ADDRESS +\d+\n/);
    expect(stdout).toMatch(/\nnothing found\n$/);
    expect(status).toBe(0);
  });

  test("two seconds of a race: nothing found", async () => {
    const { status, stdout, stderr } = await fuzz(["--seconds", "2", "--race"]);
    console.log(stdout.trimEnd());
    expect(stderr).toBe("");
    expect(stdout).toMatch(/\n[1-9]\d* writes by the second thread\n/);
    expect(stdout).toMatch(/\nnothing found\n$/);
    expect(status).toBe(0);
  });

  test("SIGINT ends it, with what came of it", async () => {
    const args = ["--seconds", "600", "--ring", "ts"];
    const { status, stdout } = await fuzz(args, "--import", TELLS_OF_SIGINT);
    expect(stdout).toMatch(/^\d+ cases in .* a second: ts\n[\s\S]*\nnothing found\n$/);
    expect(status).toBe(0);
  });

  test("one case by its seed; arguments that are wrong", async () => {
    const { status, stdout } = await fuzz(["--seconds", "0", "--seed", "7", "--ring", "wasm"]);
    expect(stdout).toMatch(/^1 cases in [\s\S]*\nseeds from 7\n[\s\S]*\nnothing found\n$/);
    expect(status).toBe(0);
    for (const args of [["--bogus"], ["--seconds", "x"], ["--seconds", "1", "--seed", "-1"]]) {
      expect((await fuzz(args)).status).toBe(2);
    }
    expect((await fuzz(["--help"])).status).toBe(0);
  });

  test("seeds that once found something find nothing", () => {
    const runner = new CaseRunner(["wasm", "ts"]);
    for (const seed of seeds) runner.run(seed);
  });
});

/** Rings whose device or driver does `after` behind each call named `call`. */
function faulty(
  side: "device" | "driver",
  call: string,
  after: (view: DataView, vq: number, got: number) => number,
): RingMaker {
  return (memory, kind) => {
    const rings = loadRings(memory, kind);
    const view = new DataView(memory.buffer);
    const wrap = <T extends DeviceRing | DriverRing>(ring: T): T =>
      new Proxy(ring, {
        get(target, name) {
          const method = Reflect.get(target, name);
          if (typeof method !== "function") return method;
          return (...args: number[]) => {
            const got = method.apply(target, args);
            return name === call ? after(view, target.vq, got) : got;
          };
        },
      });
    return {
      device: (vq) => (side === "device" ? wrap(rings.device(vq)) : rings.device(vq)),
      driver: (vq) => (side === "driver" ? wrap(rings.driver(vq)) : rings.driver(vq)),
    };
  };
}

/** Adds to a u32 of memory. */
function bump(view: DataView, at: number, by = 1): void {
  view.setUint32(at, view.getUint32(at, true) + by, true);
}

describe("a fault is found", () => {
  test.each<[string, RegExp, RingMaker]>([
    [
      "a write behind the state block",
      /^wrote outside its own: /,
      faulty("device", "publish", (view, vq, got) => {
        view.setUint8(vq - 1, view.getUint8(vq - 1) ^ 1);
        return got;
      }),
    ],
    [
      "a configured word that changes",
      /^wrote outside its own: .*word 76 of the state block$/,
      faulty("device", "enableKick", (view, vq, got) => {
        bump(view, vq + s.VQ_REGION_COUNT);
        return got;
      }),
    ],
    [
      "a piece that goes too far",
      /^a piece that is not in guest memory: /,
      faulty("device", "getDescs", (view, vq, got) => {
        if (got > 0) bump(view, view.getUint32(vq + s.VQ_IOV, true) + s.IOV_LENGTH, 0x10_0000);
        return got;
      }),
    ],
    [
      "bytes that are not the sum",
      /^writable bytes: /,
      faulty("device", "getDescs", (view, vq, got) => {
        if (got > 0) bump(view, view.getUint32(vq + s.VQ_CHAINS, true) + s.CHAIN_IN_BYTES);
        return got;
      }),
    ],
    [
      "an error that is not among all",
      /^error counts do not add up: /,
      faulty("device", "disableKick", (view, vq, got) => {
        bump(view, vq + s.VQ_ERROR_COUNTS + 4 * s.VRING_E_HEAD);
        return got;
      }),
    ],
    [
      "an entry that is lost",
      /^free entries: /,
      faulty("device", "publish", (view, vq, got) => {
        const isPacked = (view.getUint32(vq + s.VQ_FLAGS, true) & s.VQ_F_PACKED) !== 0;
        const num = view.getUint32(vq + s.VQ_NUM, true);
        if (isPacked) view.setUint32(vq + s.VQ_INFLIGHT_HEAD, num, true);
        return got;
      }),
    ],
    ["an answer out of range", /^more chains than /, faulty("device", "getDescs", () => 4096)],
    [
      "work without end",
      /^still work after so /,
      faulty("device", "availLen", (_v, _q, n) => n + 1),
    ],
    [
      "an exception",
      /^a fault of ours$/,
      faulty("driver", "getBufs", () => {
        throw new Error("a fault of ours");
      }),
    ],
    [
      "a length that was not cut",
      /^used bytes: /,
      faulty("driver", "getBufs", (view, vq, got) => {
        const chains = view.getUint32(vq + s.VQ_CHAINS, true);
        if (got > 0) view.setUint32(chains + s.CHAIN_USED_BYTES, 0xffff_ffff, true);
        return got;
      }),
    ],
    [
      "a descriptor that is lost",
      /^free descriptors: /,
      faulty("driver", "addBufs", (view, vq, got) => {
        bump(view, vq + s.VQ_NUM_FREE, -1);
        return got;
      }),
    ],
  ])("%s", (_name, what, makeRings) => {
    const runner = new CaseRunner(["wasm"], makeRings);
    const found: string[] = [];
    for (let seed = 0; seed < 400 && !found.some((text) => what.test(text)); seed++) {
      try {
        runner.run(seed);
      } catch (error) {
        found.push((error as Error).message);
      }
    }
    expect(found.filter((text) => what.test(text)).length, found.slice(0, 5).join("\n")).toBe(1);
  });

  test("rings that differ are", () => {
    const good = loadRings;
    const bad = faulty("device", "callNeeded", (_view, _vq, got) => (got ? 0 : got));
    const makeRings: RingMaker = (memory, kind) => (kind === "ts" ? bad : good)(memory, kind);
    const runner = new CaseRunner(["wasm", "ts"], makeRings);
    expect(() => {
      for (let seed = 0; seed < 400; seed++) runner.run(seed);
    }).toThrow("the rings' answers differ");
  });
});
