// Devices whose addresses are translated, their worker a thread: the guest sends and takes as fast
// as it may, while questions are answered page by page, and pages move, and nothing is lost, done
// twice, or out of order. FC_SEED=<number> replays what is random here, not when threads run.

import { setImmediate as nextTurn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { describe, expect, onTestFinished, test } from "vitest";
import { DeviceIotlb } from "#dist/vhost/ioctl/device-iotlb.js";
import { Iotlb, IotlbView } from "#dist/vhost/ioctl/iotlb.js";
import { iotlbMessages } from "#dist/vhost/ioctl/iotlb-front.js";
import { IotlbQuestions, QUESTIONS_MAX } from "#dist/vhost/ioctl/iotlb-questions.js";
import { munmap } from "#dist/vhost/user-access.js";
import { Random } from "../../fuzz/random.js";
import { threadCount, until } from "../../helpers/devices.js";
import { expectSame, IotlbRig, type IotlbRigOptions } from "../../helpers/iotlb-rig.js";
import { EVENT_IDX } from "../../helpers/raw-guest.js";
import { seedOf } from "../../helpers/seed.js";
import { PAGE } from "../../helpers/viommu.js";

const SEED = seedOf("iotlb threads");

const HEADER_BYTES = 12;
const pageOf = (iova: bigint) => iova & ~BigInt(PAGE - 1);

async function boot(random: Random, options: IotlbRigOptions = {}): Promise<IotlbRig> {
  const threads = threadCount();
  const rig = new IotlbRig("net", random, { run: "thread", ...options });
  onTestFinished(async () => {
    await rig.close();
    await until(() => threadCount() === threads);
  });
  return rig.idle();
}

/** A guest that sends frames, and takes others, as fast as it may; each has its number in it. */
class Guest {
  sent = 0;
  back = 0;
  got = 0;
  given = 0;
  isOver = false;
  readonly #out: bigint[];
  readonly #in: bigint[];

  constructor(readonly rig: IotlbRig) {
    const { num } = rig.rings[0];
    this.#out = Array.from({ length: num }, () => rig.alloc(5000));
    this.#in = Array.from({ length: num }, (_, i) => rig.post(i, 5000));
  }

  #bytes(number: number): Uint8Array {
    const more = (number * 997) % (number % 16 === 0 ? 4800 : 300);
    const bytes = new Uint8Array(HEADER_BYTES + 60 + more).fill(number);
    bytes.fill(0, 0, HEADER_BYTES);
    new DataView(bytes.buffer).setUint32(HEADER_BYTES, number);
    return bytes;
  }

  #send(): void {
    const [, tx] = this.rig.rings;
    this.back += (tx.usedIdx - this.back) & 0xffff;
    while (!this.isOver && this.sent - this.back < tx.num) {
      const head = this.sent % tx.num;
      const bytes = this.#bytes(this.sent++);
      const addr = this.#out[head] as bigint;
      this.rig.iommu.write(addr, bytes);
      tx.setDesc(head, { addr, len: bytes.length });
      tx.publish(head);
    }
    this.rig.kick(1);
  }

  #take(): void {
    const [rx] = this.rig.rings;
    for (; (rx.usedIdx - this.got) & 0xffff; this.got++) {
      const { id, len } = rx.usedEntry(this.got & 0xffff);
      const expected = this.#bytes(this.got);
      expect([this.got, id, len]).toEqual([this.got, this.got % rx.num, expected.length]);
      const frame = this.rig.iommu.read(this.#in[id] as bigint, len).subarray(HEADER_BYTES);
      expectSame(frame, expected.subarray(HEADER_BYTES), `frame ${this.got}`);
      rx.publish(id);
    }
    this.rig.kick(0);
  }

  #give(): void {
    const isFree = () => !this.isOver && this.given - this.got < 2 * this.rig.rings[0].num;
    while (isFree() && this.rig.tap.receive(this.#bytes(this.given).slice(HEADER_BYTES))) {
      this.given++;
    }
  }

  /** Until it is over, and all that was sent or given has come. */
  async run(): Promise<void> {
    const isBusy = () => this.back < this.sent || this.got < this.given;
    while (!this.isOver || isBusy()) {
      this.#give();
      this.#send();
      this.#take();
      await nextTurn();
    }
    await until(() => this.rig.wire.length === this.sent);
    for (const [i, frame] of this.rig.wire.entries()) {
      expectSame(frame, this.#bytes(i).subarray(HEADER_BYTES), `frame ${i}`);
    }
  }
}

/** The device's questions are answered, in any order, until `running` has ended. */
async function answerUntil(running: Promise<void>, rig: IotlbRig): Promise<void> {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  running.then(end, end);
  while (!isOver) {
    rig.iommu.listen();
    for (let i = rig.random.below(4); i > 0; i--) rig.iommu.answerOne();
    await nextTurn();
  }
  await running;
}

const SHAPES: [string, IotlbRigOptions][] = [
  ["small rings", { num: 8 }],
  ["areas that cross pages, EVENT_IDX", { num: 64, features: EVENT_IDX, base: 0x1f40n }],
];

describe.each(SHAPES)("under load, %s", (_, options) => {
  test(`pages are told of one by one, and move, FC_SEED=${SEED}`, async () => {
    const random = new Random(SEED);
    const rig = await boot(random, options);
    const guest = new Guest(rig);
    const answering = answerUntil(guest.run(), rig);
    for (let moves = 0; moves < 100 || rig.iommu.askedCount <= 50; moves++) {
      await Promise.race([answering, rig.iommu.move(random.pick(rig.iommu.pages))]);
      if (random.once(2)) await nextTurn();
    }
    await Promise.race([answering, until(() => guest.got >= 30 && guest.back >= 30)]);
    guest.isOver = true;
    await answering;
    expect([rig.count(0, "err"), rig.count(1, "err")]).toEqual([0, 0]);
    expect([rig.count(0, "call") > 0, rig.count(1, "call") > 0]).toEqual([true, true]);
  });

  test(`rings are updated, stopped and started, FC_SEED=${SEED}`, async () => {
    const random = new Random(SEED + 1);
    const rig = await boot(random, options);
    const guest = new Guest(rig);
    const answering = answerUntil(guest.run(), rig);
    const whole = { guest_phys_addr: 0n, memory_size: 1n << 20n, userspace_addr: 1n << 20n };
    for (let round = 0; round < 30; round++) {
      rig.must("VHOST_SET_MEM_TABLE", { regions: round % 2 === 0 ? [] : [whole] });
      await rig.idle();
      const index = random.below(2);
      rig.must("VHOST_NET_SET_BACKEND", { index, fd: -1 });
      await rig.idle();
      for (const { used } of rig.rings) rig.iommu.tell(pageOf(used));
      expect(rig.start()).toEqual(["OK", "OK"]);
      const { got, back } = guest;
      const moves = until(() => guest.got > got && guest.back > back);
      await Promise.race([answering, moves]); // what the guest finds wrong is told at once
    }
    guest.isOver = true;
    await answering;
    expect([rig.count(0, "err"), rig.count(1, "err")]).toEqual([0, 0]);
  });
});

test("questions that nobody hears for a while: the ring asks again when it can", async () => {
  const rig = await boot(new Random(SEED));
  rig.send(0, new Uint8Array(72));
  const word = new Int32Array(new SharedArrayBuffer(4));
  const { iotlb, workers } = rig.device.file.state;
  for (let i = 0; i < 4 * QUESTIONS_MAX; i++) {
    rig.kick(1);
    const hasLooked = workers.flush();
    while (!hasLooked()) Atomics.wait(word, 0, 0, 1); // this thread does nothing else meanwhile
  }
  const { misses } = iotlb;
  expect(misses.unreadCount).toBe(0);
  await until(() => misses.unreadCount > QUESTIONS_MAX); // and one more
  expect(misses.unreadCount).toBeLessThan(2 * QUESTIONS_MAX);
  await rig.settle();
  expect([rig.rings[1].usedIdx, rig.count(1, "err")]).toEqual([1, 0]);
});

test("questions are answered by a program that waits for them", async () => {
  const rig = await boot(new Random(SEED));
  const { owner } = rig.lab;
  const stop = new AbortController();
  const answering = (async () => {
    for await (const { iova } of iotlbMessages(owner, rig.device.fd, { signal: stop.signal }))
      rig.iommu.tell(pageOf(iova));
  })();
  for (let i = 0; i < 50; i++) {
    rig.send(i % 8, new Uint8Array(72 + i));
    rig.kick(1);
    await until(() => rig.wire.length === i + 1);
  }
  stop.abort(new Error("enough"));
  await expect(answering).rejects.toThrow("enough");
  expect(rig.count(1, "err")).toBe(0);
});

test("memory that is not mapped any more is an error, whatever was told", async () => {
  const rig = await boot(new Random(SEED));
  const [, tx] = rig.rings;
  rig.send(0, new Uint8Array(72));
  rig.kick(1);
  await rig.settle();
  const addr = rig.alloc(PAGE);
  munmap(rig.lab.memory, BigInt(rig.iommu.at(pageOf(addr))), BigInt(PAGE));
  await rig.idle();
  tx.setDesc(1, { addr, len: 72 });
  tx.publish(1);
  rig.kick(1);
  await rig.settle();
  expect([tx.usedIdx, rig.count(1, "err")]).toEqual([1, 1]);
  tx.setDesc(1, { addr: rig.alloc(72), len: 72 });
  rig.kick(1);
  await rig.settle();
  expect([tx.usedIdx, rig.count(1, "err"), rig.wire.length]).toEqual([2, 0, 2]);
});

describe("questions between two threads", () => {
  const question = (number: number) => ({
    ...{ index: number % 2, iova: 2n ** 64n - 1n - BigInt(number), perm: 1 + (number % 2) },
    seen: number - 2 * QUESTIONS_MAX,
  });

  test("come in order, with all that they say, however often around", () => {
    const worker = new IotlbQuestions();
    const kernel = new IotlbQuestions(worker.buffer);
    for (let i = 0; i < 5 * QUESTIONS_MAX; i++) {
      expect(worker.add(question(i))).toBe(true);
      expect(kernel.take()).toEqual(question(i));
      expect([kernel.take(), kernel.takeFull()]).toEqual([undefined, false]);
    }
  });

  test("more than there is room for are dropped, which is said once", () => {
    const questions = new IotlbQuestions();
    for (let i = 0; i < QUESTIONS_MAX; i++) questions.add(question(i));
    expect(questions.takeFull()).toBe(false);
    expect(questions.add(question(1000))).toBe(false);
    expect([questions.takeFull(), questions.takeFull()]).toEqual([true, false]);
    for (let i = 0; i < QUESTIONS_MAX; i++) expect(questions.take()).toEqual(question(i));
    expect(questions.take()).toBeUndefined();
  });
});

describe("a question whose answer has come meanwhile", () => {
  test.each<[string, boolean, [number, number]]>([
    ["wakes at once", true, [1, 0]],
    ["unless the ring had seen that", false, [0, 1]],
  ])("%s", (_, isChanged, expected) => {
    const iotlb = new DeviceIotlb();
    iotlb.init();
    const before = iotlb.table?.changeCount ?? 0;
    iotlb.table?.add({ start: 0n, last: 9n, uaddr: 0n, perm: 3 });
    const seen = isChanged ? before : (iotlb.table?.changeCount ?? 0);
    let wakes = 0;
    iotlb.miss({ iova: 9n, perm: 1, seen }, 0n, () => wakes++);
    expect([wakes, iotlb.misses.unreadCount]).toEqual(expected);
    iotlb.miss({ iova: 10n, perm: 1, seen }, 0n, () => wakes++);
    expect(iotlb.misses.unreadCount).toBe(expected[1] + 1);
  });
});

const READER = `
  const { workerData, parentPort } = require("node:worker_threads");
  import(workerData.module).then(({ IotlbView }) => {
    const view = new IotlbView(workerData.table);
    const words = new Int32Array(workerData.words);
    let [found, wrong, last] = [0, 0, -1];
    for (let i = 0; Atomics.load(words, 0) === 0; i = (i + 1) % 200) {
      const map = view.first(BigInt(i), BigInt(i));
      if (view.seen !== last) Atomics.add(words, 1, 1);
      last = view.seen;
      if (!map) continue;
      found = Atomics.add(words, 2, 1) + 1;
      const isRight =
        map.start <= i && map.last >= i && map.uaddr === map.start * 1000n + map.last &&
        map.perm === Number(map.start % 4n);
      if (!isRight) wrong++;
    }
    parentPort.postMessage({ found, wrong });
  });
`;

test("a table that another thread reads while it changes is read whole, or not", async () => {
  const random = new Random(SEED);
  const table = new Iotlb(64);
  const words = new Int32Array(new SharedArrayBuffer(12)); // an end, copies that were made, finds
  const module = new URL("../../../dist/vhost/ioctl/iotlb.js", import.meta.url).href;
  const workerData = { module, table: table.buffer, words: words.buffer };
  const reader = new Worker(READER, { eval: true, workerData });
  const answer = new Promise<Record<string, number>>((resolve) => reader.once("message", resolve));
  const isFew = () => Atomics.load(words, 1) < 1000 || Atomics.load(words, 2) <= 100;
  for (let round = 0; round < 200 || isFew(); round++) {
    for (let i = 0; i < 100; i++) {
      const start = BigInt(random.below(200));
      const last = start + BigInt(random.below(20));
      if (random.once(4)) table.delete(start, last);
      else table.add({ start, last, uaddr: start * 1000n + last, perm: Number(start % 4n) });
    }
    await nextTurn();
  }
  Atomics.store(words, 0, 1);
  expect(await answer).toEqual({ found: expect.any(Number), wrong: 0 });
});

test("a table that is being changed, for as long as anyone looks, holds nothing", () => {
  const table = new Iotlb();
  table.add({ start: 0n, last: 9n, uaddr: 0n, perm: 3 });
  const view = new IotlbView(table.buffer);
  expect([view.first(0n, 0n)?.last, view.seen]).toEqual([9n, table.changeCount]);
  const words = new Int32Array(table.buffer, 0, 1);
  Atomics.add(words, 0, 1); // as it is while it is written
  expect([view.first(0n, 0n), view.seen]).toEqual([undefined, -1]);
  Atomics.add(words, 0, 1);
  expect([view.first(0n, 0n)?.last, view.seen]).toEqual([9n, table.changeCount]);
});
