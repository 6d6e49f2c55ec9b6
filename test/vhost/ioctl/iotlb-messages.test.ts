// Questions and answers over a device's descriptor: read(2), write(2), poll(2), and what a program
// has in their place.

import { describe, expect, test } from "vitest";
import { fdClose } from "#dist/kernel/files.js";
import { VHOST_MSG_BYTES } from "#dist/spec/vhost-iotlb.js";
import { iotlbInvalidate, iotlbMessages, iotlbUpdate } from "#dist/vhost/ioctl/iotlb-front.js";
import type { IotlbMsg } from "#dist/vhost/ioctl/iotlb-message.js";
import { MISSES_PER_RING_MAX } from "#dist/vhost/ioctl/iotlb-misses.js";
import { Random } from "../../fuzz/random.js";
import { KERNEL_ADDRESS, refusalOf } from "../../helpers/ioctl.js";
import { IotlbRig } from "../../helpers/iotlb-rig.js";
import { PAGE } from "../../helpers/viommu.js";

const POLLIN = 0x1;
const POLLRDNORM = 0x40;
const UPDATE = 2;
const INVALIDATE = 3;

interface Fields {
  version?: number;
  asid?: number;
  iova?: bigint;
  size?: bigint;
  uaddr?: bigint;
  perm?: number;
  type?: number;
  bytes?: number;
}

function message(fields: Fields = {}): Uint8Array<ArrayBuffer> {
  const { version = 2, asid = 0, iova = 0x1000n, size = 0x1000n, uaddr = 0x40000n } = fields;
  const { perm = 3, type = UPDATE, bytes = VHOST_MSG_BYTES } = fields;
  const all = new Uint8Array(128);
  const view = new DataView(all.buffer);
  view.setInt32(0, version, true);
  view.setUint32(4, asid, true);
  view.setBigUint64(8, iova, true);
  view.setBigUint64(16, size, true);
  view.setBigUint64(24, uaddr, true);
  view.setUint8(32, perm);
  view.setUint8(33, type);
  return all.slice(0, bytes);
}

const rigOf = (kind: "net" | "vsock", options = {}) => new IotlbRig(kind, new Random(1), options);
/** It runs, and knows nothing. */
function forgetful(kind: "net" | "vsock"): IotlbRig {
  const rig = rigOf(kind);
  void iotlbInvalidate(rig.lab.owner, rig.device.fd, { iova: 0n, size: 2n ** 64n - 1n });
  return rig;
}

const LAST = 2n ** 64n - 1n;
const TASK_END = 2n ** 47n - 4096n;

describe.each(["net", "vsock"] as const)("vhost-%s", (kind) => {
  test.each<[string, string | undefined, Fields]>([
    ["an update", undefined, {}],
    ["of version 1", undefined, { version: 1 }],
    ["of an address space that is not looked at", undefined, { asid: 7 }],
    ["without its padding", undefined, { bytes: 40 }],
    ["longer than a message", undefined, { bytes: 100 }],
    ["that overlaps another", undefined, { iova: 0x1800n }],
    ["of the last address", undefined, { iova: LAST, size: 1n }],
    ["for nothing, where the program can't have it", undefined, { uaddr: KERNEL_ADDRESS, perm: 0 }],
    ["with bits that mean nothing", undefined, { perm: 0xfc, uaddr: KERNEL_ADDRESS }],
    ["as high as a program's memory can be", undefined, { uaddr: TASK_END - 0x1000n }],
    ["an invalidation", undefined, { type: INVALIDATE }],
    ["an invalidation past 2^64", undefined, { type: INVALIDATE, iova: LAST, size: 2n }],
    ["no version", "EINVAL", { version: 0 }],
    ["another version", "EINVAL", { version: 3 }],
    ["nothing", "EINVAL", { bytes: 0 }],
    ["a part of the version", "EINVAL", { bytes: 3 }],
    ["the version alone", "EINVAL", { bytes: 4 }],
    ["a byte too few", "EINVAL", { bytes: 39 }],
    ["an update of no bytes", "EINVAL", { size: 0n }],
    ["an invalidation of no bytes", "EINVAL", { size: 0n, type: INVALIDATE }],
    ["past the last address", "EFAULT", { iova: LAST, size: 2n }],
    ["all but one address, and wrong by that", "EFAULT", { iova: 2n, size: LAST }],
    ["in the kernel's memory", "EFAULT", { uaddr: KERNEL_ADDRESS }],
    ["in the kernel's memory, to be read", "EFAULT", { uaddr: KERNEL_ADDRESS, perm: 1 }],
    ["a byte too high", "EFAULT", { uaddr: TASK_END - 0xfffn }],
    ["past the last user address", "EFAULT", { uaddr: LAST - 0xffen, perm: 0 }],
    ["no type", "EFAULT", { type: 0 }],
    ["a question", "EFAULT", { type: 1 }],
    ["a failure, which nobody says", "EFAULT", { type: 4 }],
    ["the beginning of a batch, which is not offered", "EFAULT", { type: 5, size: 0n }],
    ["the end of one", "EFAULT", { type: 6, size: 0n }],
    ["a type of no meaning", "EFAULT", { type: 255 }],
  ])("%s: %s", (_what, expected, fields) => {
    const { lab, device } = rigOf(kind, { isStarted: false });
    device.file.write(message({ iova: 0x1000n, uaddr: 0x50000n }));
    const before = lab.snapshot(device.file.state);
    let taken = 0;
    const code = refusalOf(() => {
      taken = device.file.write(message(fields));
    });
    expect([code, taken]).toEqual([expected, expected ? 0 : VHOST_MSG_BYTES]);
    if (expected) expect(lab.snapshot(device.file.state)).toEqual(before);
    else if (fields.iova !== LAST || !fields.type) {
      expect(lab.snapshot(device.file.state)).not.toEqual(before);
    }
  });

  test("a device without addresses of its own takes no answer and asks nothing", () => {
    const rig = rigOf(kind, { isStarted: false });
    const { file } = rig.lab.open(kind);
    for (const type of [UPDATE, INVALIDATE]) {
      expect(refusalOf(() => file.write(message({ type })))).toBe("EFAULT");
    }
    const room = new Uint8Array(VHOST_MSG_BYTES);
    expect(refusalOf(() => file.read(room, false))).toBe("EBADFD");
    expect(refusalOf(() => file.read(room, true))).toBe("EAGAIN");
  });

  test("a question is there once for each time that the ring was looked at", () => {
    const rig = forgetful(kind);
    const { file } = rig.device;
    const look = () => {
      rig.kick(1);
      file.runPending();
    };
    expect(file.poll()).toBe(0);
    look();
    look();
    expect(file.poll()).toBe(POLLIN | POLLRDNORM);
    expect(file.read(new Uint8Array(VHOST_MSG_BYTES - 1), true)).toBe(0);
    const room = new Uint8Array(100).fill(0xff);
    expect([file.read(room, false), file.read(room, true)]).toEqual([72, 72]);
    const asked = message({ version: 1, iova: rig.rings[1].desc, size: 0n, uaddr: 0n, perm: 1 });
    asked[33] = 1;
    expect(room.slice(0, 72)).toEqual(asked);
    expect(room.slice(72)).toEqual(new Uint8Array(28).fill(0xff));
    expect([file.poll(), refusalOf(() => file.read(room, false))]).toEqual([0, "EAGAIN"]);
    expect(file.state.iotlb.misses.pendingCount).toBe(2);
  });

  test("of version 2 where that was accepted before it was asked", () => {
    const rig = forgetful(kind);
    const { file } = rig.device;
    const versions = [0n, 2n, 0n].map((value) => {
      rig.must("VHOST_SET_BACKEND_FEATURES", { value });
      rig.kick(1);
      file.runPending();
      const room = new Uint8Array(VHOST_MSG_BYTES);
      file.read(room, true);
      return room[0];
    });
    expect(versions).toEqual([1, 2, 1]);
  });

  test("an answer wakes the ring whose question was read, no other, and not before", () => {
    const rig = forgetful(kind);
    const { file } = rig.device;
    const { iommu } = rig;
    const desc = rig.rings[1].desc & ~BigInt(PAGE - 1);
    rig.kick(1);
    while (file.runPending());
    iommu.tell(desc); // nobody has read the question
    void iotlbInvalidate(rig.lab.owner, rig.device.fd, { iova: desc, size: 1n });
    expect(file.runPending()).toBe(false);
    iommu.listen();
    const uaddr = BigInt(rig.lab.shared.guestStart);
    const tell = (iova: bigint, size: bigint) =>
      iotlbUpdate(rig.lab.owner, rig.device.fd, { iova, size, uaddr });
    tell(0n, rig.rings[1].desc); // all before it
    tell(rig.rings[1].desc + 1n, 4096n); // and behind it
    expect(file.runPending()).toBe(false);
    iommu.tell(desc);
    expect(file.runPending()).toBe(true);
    expect(file.state.iotlb.misses.pendingCount).toBe(0);
  });

  test("questions of a ring are so many at most, the last among them; others keep theirs", () => {
    const rig = rigOf(kind);
    const { file } = rig.device;
    const { misses } = file.state.iotlb;
    rig.kick(0);
    while (file.runPending());
    const count = misses.unreadCount; // vsock has nothing to send
    for (let i = 0; i < 2 * MISSES_PER_RING_MAX; i++) {
      rig.must("VHOST_SET_VRING_ADDR", {
        index: 1,
        ...rig.rings[1].addresses,
        desc_user_addr: BigInt(i),
      });
      rig.kick(1);
      while (file.runPending());
      if (i % 3 === 0) rig.iommu.listen();
    }
    const seen = [misses.unreadCount, misses.pendingCount];
    for (const one of seen) expect(one).toBeLessThanOrEqual(MISSES_PER_RING_MAX + count);
    expect(misses.pendingCount).toBe(MISSES_PER_RING_MAX + count);
    rig.iommu.listen();
    expect(rig.iommu.open.at(-1)?.iova).toBe(BigInt(2 * MISSES_PER_RING_MAX - 1));
    const { guestStart } = rig.lab.shared;
    const size = BigInt(2 * MISSES_PER_RING_MAX);
    const uaddr = BigInt(guestStart);
    iotlbUpdate(rig.lab.owner, rig.device.fd, { iova: 0n, size, uaddr });
    expect([misses.pendingCount, file.runPending()]).toEqual([count, true]);
  });

  test("closed with questions open: all is given back", () => {
    const rig = forgetful(kind);
    const { file } = rig.device;
    for (let i = 0; i < 3; i++) {
      rig.kick(1);
      while (file.runPending());
    }
    rig.iommu.listen();
    rig.kick(1);
    while (file.runPending());
    rig.lab.kernel.exitGroup(rig.lab.owner, 0);
    const { table, misses } = file.state.iotlb;
    expect([file.count, table, misses.unreadCount, misses.pendingCount]).toEqual([
      0,
      undefined,
      0,
      0,
    ]);
    expect(refusalOf(() => file.write(message()))).toBe("EFAULT");
    expect(refusalOf(() => file.read(new Uint8Array(72), false))).toBe("EBADFD");
  });
});

test("vhost-scsi has no such messages", () => {
  const rig = rigOf("net", { isStarted: false });
  const { file } = rig.lab.open("scsi");
  expect(refusalOf(() => file.read(new Uint8Array(72), true))).toBe("EINVAL");
  expect(refusalOf(() => file.write(message()))).toBe("EINVAL");
});

test("RESET_OWNER forgets translations and questions", () => {
  const rig = forgetful("net");
  const { state } = rig.device.file;
  rig.kick(1);
  while (rig.device.file.runPending());
  expect([state.iotlb.table?.size, state.iotlb.misses.unreadCount]).toEqual([0, 1]);
  rig.must("VHOST_RESET_OWNER");
  expect([state.iotlb.table, state.iotlb.misses.unreadCount]).toEqual([undefined, 0]);
});

describe("in a program", () => {
  test("questions are waited for, and end with the device", async () => {
    const rig = rigOf("net");
    const { owner } = rig.lab;
    const { fd, file } = rig.device;
    const asked: IotlbMsg[] = [];
    const all = (async () => {
      for await (const one of iotlbMessages(owner, fd)) {
        asked.push(one);
        rig.iommu.tell(one.iova & ~BigInt(PAGE - 1));
        while (file.runPending());
      }
    })();
    rig.send(0, new Uint8Array(72));
    rig.kick(1);
    while (file.runPending());
    await expect.poll(() => rig.wire.length).toBe(1);
    expect(asked.map(({ type, perm, size }) => [type, perm, size])).toEqual(
      asked.map(() => [1, 1, 0n]),
    );
    fdClose(owner.files ?? expect.fail("no table"), fd);
    await all;
  });

  test("a wait can be given up, and leaves nothing behind", async () => {
    const rig = forgetful("net");
    const stop = new AbortController();
    const waiting = iotlbMessages(rig.lab.owner, rig.device.fd, { signal: stop.signal }).next();
    stop.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    rig.kick(1);
    while (rig.device.file.runPending());
    expect(rig.device.file.poll()).not.toBe(0);
  });

  test("errors", async () => {
    const rig = rigOf("net", { isStarted: false });
    const { owner } = rig.lab;
    const other = rig.lab.open("net").fd;
    const range = { iova: 0n, size: 4096n };
    await expect(iotlbMessages(owner, 999).next()).rejects.toMatchObject({ code: "EBADF" });
    await expect(iotlbMessages(owner, other).next()).rejects.toMatchObject({ code: "EBADFD" });
    const { fd } = rig.lab.eventfd();
    await expect(iotlbInvalidate(owner, fd, range)).rejects.toMatchObject({ code: "EINVAL" });
    await expect(iotlbInvalidate(owner, other, range)).rejects.toMatchObject({ code: "EFAULT" });
    const uaddr = KERNEL_ADDRESS;
    expect(refusalOf(() => iotlbUpdate(owner, rig.device.fd, { ...range, uaddr }))).toBe("EFAULT");
  });
});
