// A vhost-vsock whose addresses are translated, with a stream both ways, and rings that can't start
// yet. FC_SEED=<number> replays a run.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { writeHeader } from "#dist/vsock/header.js";
import type { VsockStream } from "#dist/vsock/stream.js";
import { Random } from "../../fuzz/random.js";
import { CID, IotlbRig, type IotlbRigOptions, RUNS } from "../../helpers/iotlb-rig.js";
import { seedOf } from "../../helpers/seed.js";
import { PAGE } from "../../helpers/viommu.js";

const SEED = seedOf("iotlb vsock");

const HEADER_BYTES = 44;
const PORT = 1234;
const REQUEST = 1;
const RW = 5;
const LEN = 24;
const OP = 30;
const BUFFER_BYTES = 3000;

function packetOf(op: number, payload = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  writeHeader(new DataView(bytes.buffer), 0, {
    ...{ srcCid: Number(CID), dstCid: 2, srcPort: 1000, dstPort: PORT, type: 1, flags: 0, op },
    ...{ len: payload.length, bufAlloc: 1 << 20, fwdCnt: 0 },
  });
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

const random = new Random(SEED);
const some = (most: number) =>
  Uint8Array.from({ length: random.between(1, most) }, () => random.below(256));

/** What the device put into the guest's buffers since the last look: payloads. */
class Received {
  readonly #buffers = new Map<number, bigint>();
  #seen = 0;

  constructor(readonly rig: IotlbRig) {}

  post(index: number): void {
    this.#buffers.set(index, this.rig.post(index, BUFFER_BYTES));
  }

  take(): Uint8Array {
    const [rx] = this.rig.rings;
    const payloads: Uint8Array[] = [];
    for (; this.#seen !== rx.usedIdx; this.#seen++) {
      const { id, len } = rx.usedEntry(this.#seen);
      const bytes = this.rig.iommu.read(this.#buffers.get(id) as bigint, len);
      const view = new DataView(bytes.buffer);
      expect(view.getUint32(LEN, true)).toBe(len - HEADER_BYTES);
      if (view.getUint16(OP, true) === RW) payloads.push(bytes.subarray(HEADER_BYTES));
      this.post(id);
    }
    return Uint8Array.from(payloads.flatMap((one) => [...one]));
  }
}

describe.each(RUNS)("a worker: %s", (run) => {
  function make(options: IotlbRigOptions = {}): Promise<IotlbRig> {
    const rig = new IotlbRig("vsock", random, { run, ...options });
    onTestFinished(() => rig.close());
    return rig.idle();
  }

  test.each([8, 256])(`a stream, rings of %i entries, FC_SEED=${SEED}`, async (num) => {
    const rig = await make({ num });
    const { sockets } = rig.device;
    const streams: VsockStream[] = [];
    const atHost: number[] = [];
    sockets?.listen(PORT, (stream) => {
      streams.push(stream);
      stream.on("error", () => {}); // it ends with the program
      stream.on("data", (bytes: Buffer) => atHost.push(...bytes));
    });
    const received = new Received(rig);
    for (let i = 0; i < 8; i++) received.post(i);
    rig.send(0, packetOf(REQUEST));
    rig.kick(1);
    await rig.settle();
    await nextTurn();
    const [stream] = streams;
    if (!stream) return expect.fail("no stream");
    const fromGuest: number[] = [];
    const fromHost: number[] = [];
    const atGuest: number[] = [];
    for (let round = 0; round < 40; round++) {
      const data = some(6000);
      fromGuest.push(...data);
      rig.send(random.below(4), packetOf(RW, data), random.between(1, 4));
      const back = some(6000);
      fromHost.push(...back);
      stream.write(back);
      rig.kick(1);
      await nextTurn();
      for (let turns = 0; turns < 4; turns++) {
        rig.kick(0);
        await rig.settle();
        if (random.below(2) === 0) await rig.iommu.move(random.pick(rig.iommu.pages));
        atGuest.push(...received.take());
      }
      await nextTurn();
      expect(atHost.length, `round ${round}`).toBe(fromGuest.length);
    }
    rig.kick(0);
    await rig.settle();
    atGuest.push(...received.take());
    expect(atHost).toEqual(fromGuest);
    expect(atGuest).toEqual(fromHost);
    expect([rig.count(0, "err"), rig.count(1, "err")]).toEqual([0, 0]);
  });

  test("where the used ring is must be known at first: EFAULT, an error, a question", async () => {
    const rig = await make({ isStarted: false });
    const { iommu, rings } = rig;
    const [rx, tx] = rings;
    const page = (at: bigint) => at & ~BigInt(PAGE - 1);
    expect(rig.start()).toEqual(["EFAULT"]);
    iommu.listen();
    expect(iommu.open).toEqual([{ iova: rx.used, perm: 1 }]); // to be read, as Linux asks
    expect([rig.count(0, "err"), rig.count(1, "err")]).toEqual([1, 0]);
    expect(rig.device.file.state.vqs.map(({ isActive }) => isActive)).toEqual([false, false]);
    iommu.tell(page(rx.used));
    expect(rig.start()).toEqual(["EFAULT"]);
    iommu.listen();
    expect(iommu.open.at(-1)).toEqual({ iova: tx.used, perm: 1 });
    iommu.tell(page(tx.used));
    expect(rig.start()).toEqual(["OK"]);
  });

  test("accepted while rings run: they go on where they are, and ask", async () => {
    const rig = await make();
    const { lab, iommu } = rig;
    const [, tx] = rig.rings;
    rig.send(0, packetOf(REQUEST));
    rig.kick(1);
    await rig.settle();
    expect(tx.usedIdx).toBe(1);
    const before = iommu.askedCount;
    rig.must("VHOST_SET_FEATURES", { value: (1n << 32n) | (1n << 33n) }); // all is forgotten
    await rig.idle();
    rig.send(1, packetOf(REQUEST));
    rig.kick(1);
    await rig.settle();
    expect(iommu.askedCount).toBeGreaterThan(before);
    rig.must("VHOST_SET_FEATURES", { value: 1n << 32n }); // nothing is, nor does it matter any more
    await rig.idle();
    rig.send(2, packetOf(REQUEST));
    rig.kick(1);
    await rig.settle();
    expect([tx.usedIdx, rig.lastAvail(1), rig.count(1, "err")]).toEqual([3, 3, 0]);
    rig.must("VHOST_VSOCK_SET_RUNNING", { value: 0 });
    await rig.idle();
    rig.must("VHOST_VSOCK_SET_RUNNING", { value: 1 });
    await rig.idle();
    rig.send(3, packetOf(REQUEST));
    rig.kick(1);
    await rig.settle();
    expect(tx.usedIdx).toBe(4);
    const free = lab.shared.host.freeBytes;
    rig.must("VHOST_VSOCK_SET_RUNNING", { value: 0 });
    await rig.idle();
    expect(lab.shared.host.freeBytes).toBeGreaterThan(free);
  });
});
