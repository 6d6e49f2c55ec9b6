// Several pairs of queues: which flow comes where, and that no queue holds another up. virtio 1.3,
// 5.1.6.5.5 Device operation in multiqueue mode.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Kernel, net, Switch } from "#dist/index.js";
import { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ } from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { rejected } from "../helpers/devices.js";
import { flow } from "../helpers/net-flow-frames.js";
import { keepPumping } from "../helpers/pump.js";
import { bit, type GuestRing, RawGuest, VERSION_1, WAYS } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const PAIRS = 4;
const MQ = VERSION_1 | bit(VIRTIO_NET_F_MQ);
const MQ_CTRL = MQ | bit(VIRTIO_NET_F_CTRL_VQ);
const HEADER = Buffer.alloc(12);
/** By their ports, from 0 on; with 22 of them, two would have one number of 1024. */
const FLOWS = 22;

/** A raw guest with four pairs, at a function. */
async function open(mode: object, features = MQ_CTRL, queues = 2 * PAIRS + 1) {
  const nic = net({ onPacket: () => {}, queuePairs: PAIRS, queueSize: 64 });
  const guest = await RawGuest.open(nic, { ...mode, features, queues });
  const ring = (index: number) => guest.rings[index] as GuestRing;
  const rx = (pair: number) => ring(2 * pair);
  const tx = (pair: number) => ring(2 * pair + 1);
  /** Gives receive queue `pair` so many buffers. */
  const give = (pair: number, count: number) => {
    for (let i = 0; i < count; i++) rx(pair).send(rx(pair).link([guest.describe(200)]));
  };
  const setPairs = (pairs: number) => ring(2 * PAIRS).request([Buffer.from([4, 0, pairs, 0]), 1]);
  /** How many packets each receive queue has got, when all `total` have come. */
  const come = async (total: number) => {
    const unseen = () => [0, 1, 2, 3].map((pair) => guest.rings[2 * pair]?.unseen ?? 0);
    const sum = () => unseen().reduce((all, one) => all + one, 0);
    await guest.until(() => sum() >= total);
    return unseen();
  };
  const close = () => guest[Symbol.asyncDispose]();
  return { nic, guest, rx, tx, give, setPairs, come, [Symbol.asyncDispose]: close };
}

describe.each(WAYS)("$run, $ring ring", (mode) => {
  test("before the command, all come to the first; after it, where the flow has sent", async () => {
    await using raw = await open(mode);
    for (let pair = 0; pair < PAIRS; pair++) raw.give(pair, 20);
    for (let port = 0; port < 8; port++) raw.nic.send(flow(port).back);
    expect(await raw.come(8)).toEqual([8, 0, 0, 0]);
    await raw.setPairs(PAIRS);
    for (let port = 0; port < 8; port++) {
      const tx = raw.tx(port === 7 ? 3 : port % 2);
      await tx.request([HEADER, flow(port).out]);
    }
    for (let port = 0; port < 8; port++) raw.nic.send(flow(port).back);
    expect(await raw.come(16)).toEqual([12, 3, 0, 1]);
    await raw.tx(2).request([HEADER, flow(0).out]); // it moves
    raw.nic.send(flow(0).back);
    expect(await raw.come(17)).toEqual([12, 3, 1, 1]);
    await raw.setPairs(1);
    for (let port = 0; port < 4; port++) raw.nic.send(flow(port).back);
    expect(await raw.come(21)).toEqual([16, 3, 1, 1]);
    expect(raw.guest.dev.errorCounts()).toEqual({});
  });

  test("flows that sent nothing are spread over all that are in use", async () => {
    await using raw = await open(mode);
    for (let pair = 0; pair < PAIRS; pair++) raw.give(pair, 60);
    await raw.setPairs(3);
    for (let port = 0; port < 60; port++) raw.nic.send(flow(port).back);
    const [first, second, third, fourth] = await raw.come(60);
    for (const count of [first, second, third]) expect(count).toBeGreaterThan(5);
    expect(fourth).toBe(0);
  });

  test("a queue without buffers holds no other up, keeps some, loses the rest", async () => {
    await using raw = await open(mode);
    await raw.setPairs(2);
    raw.give(0, 64);
    await raw.tx(1).request([HEADER, flow(1).out]);
    await raw.tx(0).request([HEADER, flow(0).out]);
    const long = Buffer.concat([flow(1).back, Buffer.alloc(60_000)]);
    for (let i = 0; i < 64; i++) {
      while (!raw.nic.send(long)) await runOrSleep(raw.guest);
      while (!raw.nic.send(flow(0).back)) await runOrSleep(raw.guest);
    }
    expect(await raw.come(64)).toEqual([64, 0, 0, 0]);
    raw.nic.send(flow(1).back); // behind those that found room
    for (let i = 0; i < 3; i++) {
      raw.rx(1).send(raw.rx(1).link([raw.guest.describe(61_000)]));
    }
    expect(await raw.come(67)).toEqual([64, 3, 0, 0]);
    for (let i = 0; i < 30; i++) {
      raw.rx(1).send(raw.rx(1).link([raw.guest.describe(61_000)]));
    }
    const lengths: number[] = [];
    while (lengths.at(-1) !== flow(1).back.length + 12) {
      await raw.guest.until(() => raw.rx(1).unseen > 0);
      lengths.push((await raw.rx(1).next()).length);
    }
    const kept = Math.floor(2 ** 20 / long.length); // of 64
    expect(lengths.slice(0, -1)).toEqual(Array(kept).fill(long.length + 12));
  });

  test("5.1.6.5.5.2: none comes to a queue above the number that was set", async () => {
    await using raw = await open(mode);
    await raw.setPairs(2);
    await raw.tx(1).request([HEADER, flow(1).out]);
    for (let i = 0; i < 5; i++) raw.nic.send(flow(1).back); // for the second: it has no buffers
    if (raw.guest.isInline) raw.guest.runAll();
    else await sleep(20);
    await raw.setPairs(1);
    raw.give(1, 10);
    raw.give(0, 10);
    raw.nic.send(flow(1).back);
    expect(await raw.come(1)).toEqual([1, 0, 0, 0]);
    await raw.setPairs(2); // what waited there is void
    raw.nic.send(flow(1).back);
    expect(await raw.come(2)).toEqual([1, 1, 0, 0]);
    await runOrSleep(raw.guest);
    expect(await raw.come(2)).toEqual([1, 1, 0, 0]);
  });

  test("a reset makes void what waited, and one pair is in use again", async () => {
    await using raw = await open(mode);
    const { guest } = raw;
    await raw.setPairs(2);
    await raw.tx(1).request([HEADER, flow(1).out]);
    for (let i = 0; i < 5; i++) raw.nic.send(flow(1).back); // the second has no buffers
    await runOrSleep(guest);
    await guest.dev.reset();
    guest.dev.setFeatures(MQ_CTRL);
    guest.dev.setMemTable([guest.whole]);
    for (let index = 0; index < 2 * PAIRS + 1; index++) guest.addRing(index, 64);
    await guest.dev.start();
    for (let pair = 0; pair < 2; pair++) raw.give(pair, 10);
    const last = flow(1).back;
    last.writeUInt32BE(0xabcd, 50);
    raw.nic.send(last);
    expect(await raw.come(1)).toEqual([1, 0, 0, 0]);
    expect(Buffer.from(guest.takeWritten()).readUInt32BE(12 + 50)).toBe(0xabcd);
    await raw.setPairs(2);
    await raw.tx(1).request([HEADER, flow(1).out]);
    raw.nic.send(flow(1).back);
    expect(await raw.come(2)).toEqual([1, 1, 0, 0]);
  });

  test("a front-end with the control queue to itself: the rings that run are in use", async () => {
    await using raw = await open(mode, MQ, 4); // the pairs of before are enabled, two of four
    raw.give(0, 60);
    raw.give(1, 60);
    for (let port = 0; port < 60; port++) raw.nic.send(flow(port).back);
    const [first, second] = await raw.come(60);
    expect(first).toBeGreaterThan(5);
    expect(second).toBeGreaterThan(5);
    await raw.tx(1).request([HEADER, flow(1).out]);
    raw.nic.send(flow(1).back);
    expect((await raw.come(61))[1]).toBe((second ?? 0) + 1);
  });
});

async function runOrSleep(guest: RawGuest): Promise<void> {
  if (guest.isInline) guest.runAll();
  else await sleep(0);
}

describe.each(WAYS)("drivers at a switch, $run, $ring ring", (mode) => {
  test("any flows on any pairs: all arrive, those of a flow in order", async () => {
    const seed = seedOf("queues");
    const random = new Random(seed);
    const lan = new Switch();
    const kernel = new Kernel();
    const ends = await Promise.all(
      [0, 1].map(async () => {
        const process = kernel.spawn({ memoryBytes: 16 << 20 });
        const device = await process.open(net({ switch: lan.port(), queuePairs: PAIRS }), mode);
        const stopPump = keepPumping(device, mode);
        const driver = await device.driver();
        return { process, device, driver, stopPump, got: [] as number[][] };
      }),
    );
    const [a, b] = ends as [(typeof ends)[0], (typeof ends)[0]];
    expect(a.driver.pairsMax).toBe(PAIRS);
    for (const { driver, got } of ends) {
      driver.onPacket = (frame) => {
        const view = Buffer.from(frame);
        const port = Math.min(view.readUInt16BE(34), view.readUInt16BE(36));
        got[port] ??= [];
        got[port].push(view.readUInt32BE(50));
      };
    }
    await rejected("EINVAL", a.driver.send(flow(0).out, 1));
    await rejected("EINVAL", a.driver.setPairs(PAIRS + 1));
    await a.driver.setPairs(PAIRS);
    await b.driver.setPairs(PAIRS - 1);
    const send = async (port: number, isBack: boolean, number: number) => {
      const frame = isBack ? flow(port).back : flow(port).out;
      frame.writeUInt32BE(number, 50);
      await (isBack ? b : a).driver.send(frame, port % (isBack ? PAIRS - 1 : PAIRS));
    };
    const count = () => ends.reduce((all, { got }) => all + got.flat().length, 0);
    const come = (total: number) => expect.poll(count, { message: `FC_SEED=${seed}` }).toBe(total);
    // A flow may change its queue until it was sent both ways, and one queue overtakes another.
    for (let port = 0; port < FLOWS; port++) {
      for (const isBack of [false, true]) await send(port, isBack, 0);
    }
    await come(2 * FLOWS);
    const total = 800;
    for (let i = 1; i <= total; i++) await send(random.below(FLOWS), random.once(3), i);
    await come(2 * FLOWS + total);
    for (const { got } of ends) {
      for (const list of got) expect(list ?? []).toEqual([...(list ?? [])].sort((x, y) => x - y));
    }
    for (const { stopPump, process, device } of ends) {
      expect(device.errorCounts()).toEqual({});
      await stopPump();
      await process.exit();
    }
    lan.close();
  });
});

test.each([0, 16, 1.5])("%i pairs of queues are refused", (queuePairs) => {
  expect(() => net({ queuePairs })).toThrow(/queuePairs/);
});
