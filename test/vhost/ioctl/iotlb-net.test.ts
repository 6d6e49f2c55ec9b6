// A vhost-net whose addresses are translated: pages are told of one by one, in any order, late,
// some never; some lie elsewhere later. FC_SEED=<number> replays a run.

import { describe, expect, onTestFinished, test } from "vitest";
import { iotlbInvalidate, iotlbUpdate } from "#dist/vhost/ioctl/iotlb-front.js";
import { Random } from "../../fuzz/random.js";
import { expectSame, IotlbRig, type IotlbRigOptions, RUNS } from "../../helpers/iotlb-rig.js";
import { EVENT_IDX } from "../../helpers/raw-guest.js";
import { seedOf } from "../../helpers/seed.js";
import { PAGE } from "../../helpers/viommu.js";

const SEED = seedOf("iotlb net");

const HEADER_BYTES = 12;

function frameOf(random: Random, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, () => random.below(256));
}

/** With the header that frames have in buffers. */
const packetOf = (frame: Uint8Array) => Uint8Array.of(...new Uint8Array(HEADER_BYTES), ...frame);

function sameFrames(actual: readonly Uint8Array[], expected: readonly Uint8Array[]): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, frame] of actual.entries()) {
    expectSame(frame, expected[i] as Uint8Array, `frame ${i}`);
  }
}

const pageOf = (iova: bigint) => iova & ~BigInt(PAGE - 1);

const SHAPES: [string, IotlbRigOptions][] = [
  ["a small ring", {}],
  ["rings whose areas lie in many pages", { num: 512 }],
  ["areas that cross pages, EVENT_IDX", { num: 64, features: EVENT_IDX, base: 0x1f40n }],
  ["addresses at the very end", { num: 8, base: 2n ** 64n - 0x200_0000n }],
];

describe.each(RUNS)("a worker: %s", (run) => {
  function make(random: Random, options: IotlbRigOptions = {}): Promise<IotlbRig> {
    const rig = new IotlbRig("net", random, { run, ...options });
    onTestFinished(() => rig.close());
    return rig.idle();
  }

  describe.each(SHAPES)("%s", (_name, options) => {
    test(`frames of the guest's, in order, whole, FC_SEED=${SEED}`, async () => {
      const random = new Random(SEED);
      const rig = await make(random, options);
      const [, tx] = rig.rings;
      const sent: Uint8Array[] = [];
      for (let round = 0; round < 30; round++) {
        for (let i = random.between(1, 2); i > 0; i--) {
          const frame = frameOf(random, random.between(14, 9000));
          rig.send(4 * (i - 1), packetOf(frame), random.between(1, 4));
          sent.push(frame);
        }
        rig.kick(1);
        await rig.settle();
        expect(rig.wire.length, `round ${round}`).toBe(sent.length);
        expect([tx.usedIdx, rig.lastAvail(1)]).toEqual([sent.length, sent.length]);
      }
      sameFrames(rig.wire, sent);
      expect(rig.iommu.askedCount).toBeGreaterThan(30);
      expect([rig.count(1, "err"), rig.iommu.open]).toEqual([0, []]);
      expect(rig.count(1, "call")).toBeGreaterThan(0);
    });

    test(`frames for the guest, FC_SEED=${SEED}`, async () => {
      const random = new Random(SEED + 1);
      const rig = await make(random, options);
      const [rx] = rig.rings;
      for (let round = 0; round < 30; round++) {
        const frame = frameOf(random, random.between(14, 9000));
        const buffer = rig.post(round % 8, 9100);
        rig.tap.receive(frame);
        rig.kick(0);
        await rig.settle();
        const len = HEADER_BYTES + frame.length;
        expect([rx.usedIdx, rx.usedEntry(round)]).toEqual([round + 1, { id: round % 8, len }]);
        const got = rig.iommu.read(buffer + BigInt(HEADER_BYTES), frame.length);
        expectSame(got, frame, `round ${round}`);
      }
      expect(rig.count(0, "err")).toBe(0);
    });
  });

  test("a page that is refused for ever: its ring waits, no error, the other goes on", async () => {
    const rig = await make(new Random(SEED));
    const [rx, tx] = rig.rings;
    const frame = Uint8Array.from({ length: 60 }, (_, i) => i);
    rig.send(0, packetOf(frame));
    rig.iommu.refused.add(rig.iommu.pages.at(-1) as bigint); // of the first frame
    rig.send(1, packetOf(frame));
    rig.kick(1);
    for (let i = 0; i < 4; i++) rig.post(i, 100);
    for (let i = 0; i < 4; i++) {
      rig.tap.receive(frame);
      rig.kick(0);
      await rig.settle();
    }
    expect(rx.usedIdx).toBe(4);
    expect([tx.usedIdx, rig.lastAvail(1), rig.count(1, "err")]).toEqual([0, 0, 0]);
    rig.iommu.refused.clear(); // at last
    await rig.settle();
    expect([tx.usedIdx, rig.wire.length, rig.count(1, "err")]).toEqual([2, 2, 0]);
  });

  test(`pages that move under load: data is where they are, FC_SEED=${SEED}`, async () => {
    const random = new Random(SEED + 2);
    const rig = await make(random, { num: 16 });
    const [rx, tx] = rig.rings;
    const { iommu } = rig;
    const sent: Uint8Array[] = [];
    let got = 0;
    for (let round = 0; round < 200; round++) {
      const frame = frameOf(random, random.between(14, 5000));
      rig.send(round % 16, packetOf(frame));
      sent.push(frame);
      const back = frameOf(random, random.between(14, 5000));
      const buffer = rig.post(round % 16, 5100);
      rig.tap.receive(back);
      rig.kick(random.below(2) as 0 | 1);
      for (let i = random.below(4); i > 0; i--) {
        rig.device.file.runPending();
        iommu.listen();
        iommu.answerOne();
        await iommu.move(random.pick(iommu.pages.slice(-6)));
        await iommu.move(
          random.pick([rx, tx, rx, tx].flatMap((one) => [one.desc, one.used])) & ~0xfffn,
        );
      }
      rig.kick(0);
      rig.kick(1);
      await rig.settle();
      expect(rig.wire.length, `round ${round}`).toBe(sent.length);
      expect(rx.usedIdx, `round ${round}`).toBe(++got);
      const read = iommu.read(buffer + BigInt(HEADER_BYTES), back.length);
      expectSame(read, back, `round ${round}`);
    }
    sameFrames(rig.wire, sent);
    expect([rig.count(0, "err"), rig.count(1, "err")]).toEqual([0, 0]);
  });

  test("what a buffer may not be used for is an error, as Linux has it, until it may", async () => {
    const rig = await make(new Random(SEED));
    const [, tx] = rig.rings;
    const addr = 0x5555_0000n;
    rig.iommu.map(addr, PAGE, 2); // to be written alone
    tx.setDesc(0, { addr, len: 72 });
    tx.publish(0);
    rig.kick(1);
    await rig.settle();
    expect([tx.usedIdx, rig.count(1, "err"), rig.iommu.open]).toEqual([0, 1, []]);
    rig.kick(1);
    await rig.settle();
    expect([tx.usedIdx, rig.count(1, "err")]).toEqual([0, 1]);
    const page = { iova: addr, size: BigInt(PAGE) };
    await iotlbInvalidate(rig.lab.owner, rig.device.fd, page);
    const uaddr = BigInt(rig.iommu.at(addr));
    iotlbUpdate(rig.lab.owner, rig.device.fd, { ...page, uaddr, perm: 3 });
    rig.kick(1);
    await rig.settle();
    expect([tx.usedIdx, rig.count(1, "err")]).toEqual([1, 0]);
  });

  test("an area that may not be used as needed: the ring waits, and nobody is told", async () => {
    const rig = await make(new Random(SEED));
    const [, tx] = rig.rings;
    const { iommu } = rig;
    iommu.tellAll(tx.desc, tx.bytes);
    const page = pageOf(tx.used);
    const uaddr = BigInt(rig.lab.shared.guestStart);
    const message = (perm: number) => {
      const bytes = new Uint8Array(72);
      const view = new DataView(bytes.buffer);
      bytes.set([2]);
      for (const [i, value] of [page, 4096n, uaddr].entries())
        view.setBigUint64(8 + 8 * i, value, true);
      bytes.set([perm, 2], 32);
      return bytes;
    };
    rig.device.file.write(message(1)); // the older one counts still
    rig.send(0, packetOf(new Uint8Array(60)));
    rig.kick(1);
    await rig.settle();
    expect(tx.usedIdx).toBe(1);
    const invalid = message(0);
    invalid[33] = 3;
    rig.device.file.write(invalid);
    rig.device.file.write(message(1));
    rig.send(1, packetOf(new Uint8Array(60)));
    rig.kick(1);
    await rig.settle();
    expect([iommu.open, rig.count(1, "err"), rig.lastAvail(1)]).toEqual([[], 0, 1]);
  });
});
