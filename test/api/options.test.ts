// A slip of the pen in an option, or one that a device can't do, is refused: nothing passes for a
// default.

import { describe, expect, test } from "vitest";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { blk, type HostileShape, Kernel } from "#dist/index.js";
import type { OpenOptions } from "#dist/loopback.js";
import { custom, rejected } from "../helpers/devices.js";

const spawn = () => new Kernel().spawn();

describe("names that there are not", () => {
  test("open, driver, hostile driver: EINVAL, with the name and those there are", async () => {
    await using process = spawn();
    const slip = (options: object) => options as OpenOptions & ProbeOptions;
    const opening = process.open(blk({ nullBytes: 512 }), slip({ polcy: "linux" }));
    expect((await rejected("EINVAL", opening)).message).toMatch(/no option polcy; .*policy/);
    const device = await process.open(blk({ nullBytes: 512 }));
    const probing = device.driver(slip({ inorder: true }));
    expect((await rejected("EINVAL", probing)).message).toMatch(/no option inorder; .*inOrder/);
    await rejected("EINVAL", device.hostileDriver(slip({ inOrder: true })));
    await (await device.driver()).close(); // and it can still be had
  });
});

describe("what is asked for and not offered", () => {
  test.each(["packed", "inOrder", "notificationData"])(
    "policy linux, %s: EOPNOTSUPP",
    async (name) => {
      await using process = spawn();
      const device = await process.open(blk({ nullBytes: 512 }), { policy: "linux" });
      const error = await rejected("EOPNOTSUPP", device.driver({ [name]: true }));
      expect(error.message).toContain(name);
      if (name !== "inOrder") await rejected("EOPNOTSUPP", device.hostileDriver({ [name]: true }));
    },
  );
});

describe("values that are none", () => {
  test.each(["hello", null, new Uint16Array(4), [1, 2]])(
    "a request of %o: EINVAL",
    async (bytes) => {
      await using process = spawn();
      const device = await process.open(custom("echo"));
      const driver = await device.driver();
      await rejected("EINVAL", driver.request(0, bytes as unknown as Uint8Array, 16));
    },
  );

  test("a buffer of the caller's own for a move without a copy: EINVAL", async () => {
    await using process = spawn();
    const device = await process.open(blk({ nullBytes: 512 }));
    const drive = await device.driver();
    type Buffer = Parameters<typeof drive.readInto>[1];
    await rejected("EINVAL", drive.readInto(0, new Uint8Array(512) as unknown as Buffer));
  });

  test.each(["loop", {}, undefined])("a shape that is %o: EINVAL", async (shape) => {
    await using process = spawn();
    const device = await process.open(custom("echo"));
    const hostile = await device.hostileDriver();
    await rejected("EINVAL", hostile.play(shape as unknown as HostileShape));
  });

  test.each([0, -1, 3, 0.5])("a queue of %d entries: EINVAL, which says so", async (queueSize) => {
    await using process = spawn();
    const device = await process.open(custom("echo"));
    const { message } = await rejected("EINVAL", device.driver({ queueSize }));
    expect(message).toContain(`not ${queueSize}`);
  });
});
