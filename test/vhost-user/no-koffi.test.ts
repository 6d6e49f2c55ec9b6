import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pattern } from "../helpers/blk-raw.js";
import { ROOT } from "../helpers/source.js";
import { Program } from "../helpers/vhost-user-child.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("without the package koffi", () => {
  const home = join(folder, "home");
  beforeAll(() => {
    mkdirSync(join(home, "node_modules"), { recursive: true });
    for (const name of ["dist", "package.json"]) {
      cpSync(join(ROOT, name), join(home, name), { recursive: true });
    }
    const modules = join(ROOT, "node_modules");
    for (const name of readdirSync(modules)) {
      if (!/koffi|^\./.test(name))
        symlinkSync(join(modules, name), join(home, "node_modules", name));
    }
    chmodSync(home, 0o755);
  });
  const run = (...args: string[]) => new Program(process.execPath, args, { cwd: home }).outcome();
  const main = join(home, "dist/cli/main.js");

  test("it is really missing", () => {
    expect(() => createRequire(join(home, "dist/x.js"))("koffi")).toThrow("Cannot find module");
  });

  test("serve says what is missing in one line, exit code 1", async () => {
    const path = join(home, "socket");
    const { code, stdout, stderr } = await run(
      main,
      "serve",
      "blk",
      "--socket",
      path,
      "--null",
      "1M",
    );
    expect(stderr).toMatch(/^vhost-wasm: ENOSYS: .*koffi; install it with: npm install koffi\n$/);
    expect(stdout).toBe("");
    expect(code).toBe(1);
    expect(existsSync(path)).toBe(false);
  });

  test("the demo and the help of serve work", async () => {
    const file = join(home, "file");
    writeFileSync(file, pattern(100_000));
    const demo = await run(main, "demo", file);
    expect(demo.stderr).toBe("");
    expect(demo).toMatchObject({ code: 0 });
    expect(await run(main, "serve", "blk", "--help")).toMatchObject({ code: 0 });
  });

  test("the library works; serveVhostUser rejects, a TAP throws", async () => {
    const program = `
      const { blk, Kernel, serveVhostUser, Switch } = await import("vhost-wasm");
      const disk = await new Kernel().spawn({}).open(blk({ memoryBytes: 512 }));
      const drive = await disk.driver();
      console.log((await drive.read(0, 512)).length);
      await disk.close();
      const device = blk({ nullBytes: 512 });
      await serveVhostUser({ socketPath: "socket", device })
        .catch(({ code }) => console.log(code));
      try {
        new Switch().port().tap("tap0");
      } catch ({ message }) {
        console.log(message);
      }`;
    const { code, stdout, stderr } = await run("--input-type=module", "--eval", program);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [length, served, tap, ...others] = stdout.split("\n");
    expect([length, served, others]).toEqual(["512", "ENOSYS", []]);
    expect(tap).toMatch(/^ENOSYS: .*koffi; install it with: npm install koffi$/);
  });
});
