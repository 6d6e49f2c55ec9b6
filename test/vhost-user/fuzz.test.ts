import * as fc from "fast-check";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type FrontEnd, type FrontQueue, u32s, u64s } from "#dist/bench/front-end.js";
import { Random } from "#dist/fuzz/random.js";
import { signalEventfd } from "#dist/linux/eventfd.js";
import { VHOST_USER_REQUESTS as REQUESTS } from "#dist/spec/vhost-user.js";
import { seedOf } from "../helpers/seed.js";
import { describeVhostUser, eventually, joined, sendUntilGone } from "../helpers/vhost-user.js";
import { FILE_BYTES, Tried } from "../helpers/vhost-user-bad.js";

/** Sequences, and messages of each. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 150);
const MESSAGES = 20;
const SEED = seedOf("vhost-user fuzz");

/** A message to be; `fds` are kinds, of `FdKinds` or of the front-end's own. */
interface RandomMessage {
  request: number;
  flags: number;
  payload: (front: FrontEnd, queue: FrontQueue) => Uint8Array;
  fds: string[];
}

const u32 = fc.oneof(
  { weight: 4, arbitrary: fc.nat(5) },
  fc.constantFrom(8, 255, 256, 1024, 65535, 65536, 0x7fffffff, 0xffffffff),
  fc.nat(0xffffffff),
);
const u64 = fc.oneof(
  fc.bigInt(0n, 8n),
  fc.constantFrom(4096n, BigInt(FILE_BYTES), 1n << 30n, 1n << 32n, 1n << 63n, (1n << 64n) - 4096n),
  fc.bigInt(0n, (1n << 64n) - 1n),
);
const bytes = (max: number) => fc.uint8Array({ maxLength: max });
const fixed = (payload: Uint8Array) => () => payload;
const random = (source: fc.Arbitrary<Uint8Array>) => source.map(fixed);
const pair = fc.tuple(u32, u32).map(([a, b]) => u32s(a, b));
const region = fc.tuple(u64, u64, u64, u64).map((words) => u64s(...words));
const good = (make: RandomMessage["payload"]) => fc.constant(make);
const ring = fc.nat(3);
const state = (value: fc.Arbitrary<number>) =>
  fc.tuple(ring, value).map(([index, number]) => fixed(u32s(index, number)));

/** What a payload of the request looks like when it is right, or nearly. */
const PAYLOADS: Partial<Record<keyof typeof REQUESTS, fc.Arbitrary<RandomMessage["payload"]>>> = {
  SET_FEATURES: fc
    .constantFrom(0x0n, 0x1_4000_0000n, 0x1_7000_0000n, 0x1_3000_0000n)
    .map((mask) => fixed(u64s(mask))),
  SET_PROTOCOL_FEATURES: fc
    .constantFrom(0n, 0x1a209n, 0x8n, 0xffffn)
    .map((mask) => fixed(u64s(mask))),
  SET_MEM_TABLE: fc.oneof(
    good((front) => joined(u32s(1, 0), front.region())),
    fc.array(region, { maxLength: 9 }).map((all) => fixed(joined(u32s(all.length, 0), ...all))),
  ),
  ADD_MEM_REG: fc.oneof(
    good((front) => joined(u64s(0), front.region())),
    region.map((one) => fixed(joined(u64s(0), one))),
  ),
  REM_MEM_REG: fc.oneof(
    good((front) => joined(u64s(0), front.region())),
    region.map((one) => fixed(joined(u64s(0), one))),
  ),
  SET_VRING_NUM: state(fc.constantFrom(8, 64, 256, 1024, 3)),
  SET_VRING_BASE: state(fc.constantFrom(0, 1, 65535, 65536)),
  GET_VRING_BASE: state(fc.constant(0)),
  SET_VRING_ENABLE: state(fc.nat(1)),
  SET_VRING_ADDR: fc.oneof(
    good((front, queue) => front.vringAddress(queue)),
    fc.tuple(pair, region).map(([head, areas]) => fixed(joined(head, areas))),
  ),
  GET_CONFIG: fc.nat(256).map((size) => fixed(joined(u32s(0, size, 0), new Uint8Array(size)))),
  SET_CONFIG: fc.nat(64).map((size) => fixed(joined(u32s(0, size, 0), new Uint8Array(size)))),
  SET_STATUS: fc.nat(16).map((status) => fixed(u64s(status))),
};
for (const name of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
  PAYLOADS[name] = fc
    .tuple(ring, fc.constantFrom(0, 0, 0, 256))
    .map(([i, no]) => fixed(u64s(i + no)));
}

/** Descriptors as the request wants them, mostly. */
const WANTED: Record<number, string[]> = {
  [REQUESTS.SET_MEM_TABLE]: ["own memory"],
  [REQUESTS.ADD_MEM_REG]: ["own memory"],
  [REQUESTS.SET_VRING_KICK]: ["own kick"],
  [REQUESTS.SET_VRING_CALL]: ["eventfd"],
  [REQUESTS.SET_VRING_ERR]: ["eventfd"],
};

function messages(kinds: readonly string[]): fc.Arbitrary<RandomMessage[]> {
  const kind = fc.constantFrom("own memory", "own kick", ...kinds);
  const flags = fc.oneof(
    { weight: 5, arbitrary: fc.constant(1) },
    { weight: 200, arbitrary: fc.constant(9) },
    { weight: 1, arbitrary: fc.nat(0xffff) },
  );
  const names = Object.keys(REQUESTS) as (keyof typeof REQUESTS)[];
  const known = fc.constantFrom(...names).chain((name) =>
    fc.record<RandomMessage>({
      request: fc.constant(REQUESTS[name]),
      flags,
      payload: fc.oneof(
        { weight: 12, arbitrary: PAYLOADS[name] ?? fc.constant(fixed(new Uint8Array(0))) },
        { weight: 1, arbitrary: random(bytes(300)) },
        { weight: 1, arbitrary: random(pair) },
      ),
      fds: fc.oneof(
        { weight: 12, arbitrary: fc.constant(WANTED[REQUESTS[name]] ?? []) },
        { weight: 1, arbitrary: fc.array(kind, { maxLength: 9 }) },
      ),
    }),
  );
  const unknown = fc.record<RandomMessage>({
    request: fc.oneof(fc.nat(64), fc.nat(0xffffffff)),
    flags,
    payload: random(bytes(300)),
    fds: fc.array(kind, { maxLength: 9 }),
  });
  const one = fc.oneof({ weight: 30, arbitrary: known }, { weight: 1, arbitrary: unknown });
  return fc.array(one, { maxLength: MESSAGES });
}

describeVhostUser("vhost-user: random input", () => {
  let tried: Tried;
  beforeAll(async () => {
    tried = await Tried.start();
  });
  afterEach(() => tried?.isWell());
  afterAll(() => tried?.close());

  test(`messages in any order`, { timeout: 600_000 }, async () => {
    let front: FrontEnd | undefined;
    let queue: FrontQueue | undefined;
    let endings = 0;
    /** Sends it all, then waits until it has been dealt with. */
    const run = async (all: RandomMessage[]) => {
      if (!front) {
        await tried.served.idle();
        front = tried.served.connect(4 << 20);
        await front.negotiate(~0n);
        await front.setMemory();
        queue = front.makeQueue(0, 64);
        await front.attach(queue);
      }
      const { areas } = queue as FrontQueue;
      front.shared.view.setUint16(areas.driver + 2, all.length, true); // heads 0, and no chains
      const own = { "own memory": front.memfd, "own kick": (queue as FrontQueue).kickFd };
      const fdOf = (kind: string) => own[kind as keyof typeof own] ?? tried.kinds.of(kind);
      try {
        for (const { request, flags, payload, fds } of all) {
          front.send(request, payload(front, queue as FrontQueue), fds.map(fdOf), flags);
          if (fds.length === 0) signalEventfd((queue as FrontQueue).kickFd);
        }
        front.send("GET_VRING_BASE", u32s(3, 0));
      } catch {} // the other end is gone
      for (;;) {
        const reply = await front.receive();
        if (reply && reply.request !== REQUESTS.GET_VRING_BASE) continue;
        if (reply && reply.payload.getUint32(0, true) !== 3) continue;
        if (reply) return;
        endings++;
        front.close();
        front = undefined;
        return;
      }
    };
    await fc.assert(fc.asyncProperty(messages(tried.kinds.not()), run), {
      numRuns: RUNS,
      seed: SEED,
      endOnFailure: true,
    });
    front?.close();
    const { served } = tried;
    await served.idle();
    expect(endings).toBeGreaterThan(0);
    const foreign = served.all("refused").filter(({ error }) => /Error:/.test(error.message));
    expect(foreign).toEqual([]); // nothing but errors that were thought of
    expect(served.all("rejected")).toEqual([]);
  });

  test("random bytes", async () => {
    const random = new Random(SEED);
    for (let i = 0; i < 9; i++) {
      await tried.served.idle();
      using front = tried.served.connect();
      const noise = new Uint8Array(random.between(400, 5400)).map(() => random.below(256));
      if (i % 2) noise.set(u32s(Object.values(REQUESTS)[i] as number, 9, random.below(300)));
      const before = tried.served.all("disconnected").length;
      front.socket.send(noise, tried.kinds.all.slice(0, i % 9));
      sendUntilGone(() => front.socket.send(noise));
      if (i % 3) front.close();
      else while (await front.receive()) {}
      front.close();
      await eventually(() => tried.served.all("disconnected").length > before, "disconnected");
    }
  });
});
