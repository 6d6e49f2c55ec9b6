import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { blk } from "#dist/devices/blk.js";
import { eventually, expectGivenBack, warmUp } from "../helpers/vhost-user.js";

import {
  describeOwners,
  makeImage,
  openFolder,
  serveOthers,
  startFront,
} from "../helpers/vhost-user-owner.js";

const folder = openFolder();

describeOwners("vhost-user: kill -9", () => {
  test("in the midst of I/O, ten times: all is freed, nothing acknowledged is lost", async () => {
    const path = makeImage(folder, "disk", 0o666);
    await using served = await serveOthers({ device: blk({ file: path }), asOwner: true });
    const before = await warmUp(served);
    const acknowledged = new Map<number, number>();
    for (let round = 0; round < 10; round++) {
      await using child = startFront({ FIRST: String(round * 100_003) });
      await child.next("ready");
      const isOther = (one: (typeof child.lines)[number]) => one.event === "flushed";
      child.say(`io ${served.path}`);
      await eventually(() => child.lines.filter(isOther).length > 5 + round * 3, "some I/O");
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
