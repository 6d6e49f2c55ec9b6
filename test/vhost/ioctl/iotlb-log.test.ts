// The dirty log of a device whose addresses are translated: what it wrote is marked by the
// addresses that the memory table has for it, which are not those of the rings.

import { expect, test } from "vitest";
import { Random } from "../../fuzz/random.js";
import { IotlbRig } from "../../helpers/iotlb-rig.js";
import { EVENT_IDX, LOG_ALL } from "../../helpers/raw-guest.js";
import { PAGE } from "../../helpers/viommu.js";

const HEADER_BYTES = 12;

/** A device that logs; guest addresses begin at `guest`, and a second time at 4 GiB. */
function boot(features: bigint, logFlags: number, guest = 0x40_0000n) {
  const rig = new IotlbRig("net", new Random(7), { features, isStarted: false });
  const { shared } = rig.lab;
  const user = BigInt(shared.guestStart);
  const size = BigInt(shared.guestBytes);
  const region = { memory_size: size, userspace_addr: user };
  const regions = [guest, 2n ** 32n].map((at) => ({ guest_phys_addr: at, ...region }));
  rig.must("VHOST_SET_MEM_TABLE", { regions });
  const logBytes = Number((2n ** 32n + size) / BigInt(PAGE) / 8n) + 1;
  const log = shared.allocGuest(logBytes);
  rig.must("VHOST_SET_LOG_BASE", { value: BigInt(log) });
  for (const [index, ring] of rig.rings.entries()) {
    rig.must("VHOST_SET_VRING_ADDR", { index, flags: logFlags, ...ring.addresses });
    rig.iommu.tell(ring.used & ~BigInt(PAGE - 1));
  }
  const marked = () => {
    const pages: bigint[] = [];
    for (let page = 0; page < 8 * logBytes; page++) {
      const byte = shared.bytes[log + (page >>> 3)] as number;
      if ((byte >>> (page & 7)) & 1) pages.push(BigInt(page));
    }
    shared.bytes.fill(0, log, log + logBytes);
    return pages;
  };
  /** Pages of the log that a range under the rings' addresses is to be marked by. */
  const pagesOf = (iova: bigint, bytes: number) => {
    const set = new Set<bigint>();
    for (let i = 0; i < bytes; i++) {
      const offset = BigInt(rig.iommu.at(iova + BigInt(i))) - user;
      for (const { guest_phys_addr } of regions) set.add((guest_phys_addr + offset) / BigInt(PAGE));
    }
    return set;
  };
  return { rig, marked, pagesOf };
}

const sorted = (...sets: Iterable<bigint>[]) => {
  const all = [...new Set(sets.flatMap((set) => [...set]))];
  return all.sort((a, b) => Number(a - b));
};

test("has of a buffer the pages that were written, in every region, and nothing else", async () => {
  const { rig, marked, pagesOf } = boot(LOG_ALL, 0);
  expect(rig.start()).toEqual(["OK", "OK"]);
  const buffer = rig.post(0, 20_000);
  rig.send(0, new Uint8Array(72));
  rig.tap.receive(new Uint8Array(5000));
  for (const index of [0, 1] as const) rig.kick(index);
  await rig.settle();
  expect([rig.rings[0].usedIdx, rig.rings[1].usedIdx]).toEqual([1, 1]);
  const expected = sorted(pagesOf(buffer, HEADER_BYTES + 5000));
  expect(expected.length).toBeGreaterThanOrEqual(4);
  expect(marked()).toEqual(expected);
});

test.each([0n, EVENT_IDX])(
  "has the used rings where that is asked, features %d more",
  async (more) => {
    const { rig, marked, pagesOf } = boot(LOG_ALL | more, 1);
    const [rx, tx] = rig.rings;
    expect(rig.start()).toEqual(["OK", "OK"]);
    expect(marked()).toEqual(sorted(pagesOf(rx.used, 2), pagesOf(tx.used, 2)));
    rig.send(0, new Uint8Array(72));
    rig.kick(1);
    await rig.settle();
    expect(tx.usedIdx).toBe(1);
    expect(marked()).toEqual(sorted(pagesOf(tx.used, 12)));
  },
);

test("does not have what is in no region, nor anything without VHOST_F_LOG_ALL", async () => {
  const { rig, marked } = boot(0n, 1);
  expect(rig.start()).toEqual(["OK", "OK"]);
  rig.post(0, 2000);
  rig.tap.receive(new Uint8Array(1000));
  rig.kick(0);
  await rig.settle();
  expect([rig.rings[0].usedIdx, marked()]).toEqual([1, []]);
  rig.must("VHOST_SET_FEATURES", { value: (1n << 32n) | LOG_ALL });
  const nowhere = { guest_phys_addr: 0n, memory_size: 64n, userspace_addr: 64n };
  rig.must("VHOST_SET_MEM_TABLE", { regions: [nowhere] });
  rig.post(1, 2000);
  rig.tap.receive(new Uint8Array(1000));
  rig.kick(0);
  await rig.settle();
  expect([rig.rings[0].usedIdx, marked()]).toEqual([2, []]);
});
