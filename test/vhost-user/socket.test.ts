import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { blk } from "#dist/devices/blk.js";
import { closeFd } from "#dist/linux/libc.js";
import { listenUnix } from "#dist/linux/unix-socket.js";
import { type ServeOptions, serveVhostUser } from "#dist/vhost-user/server.js";
import { rejected } from "../helpers/devices.js";
import {
  describeVhostUser,
  eventually,
  expectGivenBack,
  Served,
  warmUp,
} from "../helpers/vhost-user.js";

const device = blk({ nullBytes: 512 });
const serve = (socketPath: string, options: Partial<ServeOptions> = {}) =>
  serveVhostUser({ socketPath, device, ...options });

describeVhostUser("vhost-user socket", () => {
  describe("its socket", () => {
    test("takes the place of one that nobody listens at", async () => {
      await using served = await Served.start();
      const path = join(served.folder, "stale");
      closeFd(listenUnix(path));
      expect(existsSync(path)).toBe(true);
      await (await serve(path)).close();
      expect(existsSync(path)).toBe(false);
    });

    test("is not taken from whoever listens: EADDRINUSE, and that one goes on", async () => {
      await using served = await Served.start();
      const before = await warmUp(served);
      for (let i = 0; i < 3; i++) await rejected("EADDRINUSE", serve(served.path));
      await served.works();
      await expectGivenBack(served.kernel, before);
      const path = join(served.folder, "node");
      const other = createServer().listen(path);
      await eventually(() => other.listening, "listening");
      await rejected("EADDRINUSE", serve(path));
      expect(existsSync(path)).toBe(true);
      await new Promise((resolve) => other.close(resolve));
    });

    test("does not take the place of what is no socket", async () => {
      await using served = await Served.start();
      for (const [name, make] of [
        ["file", (path: string) => writeFileSync(path, "mine")],
        ["folder", (path: string) => mkdirSync(path)],
      ] as const) {
        const path = join(served.folder, name);
        make(path);
        await rejected("EADDRINUSE", serve(path));
        expect(existsSync(path)).toBe(true);
      }
    });

    test("has a path of at most 107 bytes", async () => {
      await using served = await Served.start();
      const before = await warmUp(served);
      const longest = join(served.folder, "x".repeat(107 - served.folder.length - 1));
      const server = await serve(longest);
      expect(existsSync(longest)).toBe(true);
      await server.close();
      await rejected("ENAMETOOLONG", serve(`${longest}x`));
      await rejected("ENAMETOOLONG", serve(`${longest.slice(0, -1)}ü`));
      await rejected("ENAMETOOLONG", serve("/x".repeat(5000)));
      await rejected("ENOENT", serve(join(served.folder, "nowhere/socket")));
      await expectGivenBack(served.kernel, before);
    });

    test("is removed at the end, unless it is somebody else's by then", async () => {
      await using served = await Served.start();
      const path = join(served.folder, "other");
      const first = await serve(path);
      rmSync(path);
      const second = await serve(path);
      await first.close();
      expect(existsSync(path)).toBe(true);
      renameSync(path, `${path}-moved`);
      await second.close();
      expect(existsSync(`${path}-moved`)).toBe(true);
      await served.server.close();
      expect(existsSync(served.path)).toBe(false);
    });

    test("removed with its folder, at the end too", async () => {
      const served = await Served.start();
      rmSync(served.folder, { recursive: true });
      await served[Symbol.asyncDispose]();
    });
  });
});
