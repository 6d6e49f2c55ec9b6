// Device modules for tests, made in the worker's thread by `createDevice(options, environment)`.
// `options.how` names the device.
import { BlkDevice } from "#dist/devices/blk-device.js";
import { MemoryBackend } from "#dist/devices/blk-memory.js";
import { HELD } from "#dist/vhost/virtqueue.js";

const plain = (queueCount = 1) => ({
  deviceId: 42,
  features: 0n,
  queueCount,
  queueSizeMax: 64,
  readConfig: () => new Uint8Array([1, 2, 3, 4]),
  handleKick: (vq) => vq.drain(() => 0),
});

/** Writes back what it reads, as far as there is room; upper case when bit 0 was accepted. */
function echo({ queues = 1, features = 0n }) {
  const config = new Uint8Array([0xec, 0x40]);
  let accepted = 0n;
  return {
    ...plain(queues),
    features,
    start: (mask) => {
      accepted = mask;
    },
    renew: () => config[0]++,
    readConfig: () => config,
    writeConfig: (offset, bytes) => config.set(bytes, offset),
    handleKick: (vq) =>
      vq.drain(({ readable, writable }) => {
        const bytes = new Uint8Array(readable.bytes);
        readable.read(0, bytes);
        if (accepted & 1n) bytes.set(Buffer.from(Buffer.from(bytes).toString().toUpperCase()));
        return writable.write(0, bytes);
      }),
  };
}

/** Takes no request, ever: all that is sent stays in flight. */
const hangs = ({ config = 4, queues = 2 }) => ({
  ...plain(queues),
  readConfig: () => new Uint8Array(config),
  handleKick: () => {},
});

/** Leaves what it is given in the ring until told; `words` (Int32, shared): times run, told. */
function waits({ words, queues = 1, shared }) {
  const told = new Int32Array(words);
  return {
    ...plain(queues),
    shared,
    handleKick: (vq) => {
      Atomics.add(told, 0, 1);
      if (Atomics.load(told, 1) !== 0) vq.drain(() => 0);
    },
  };
}

/**
 * Holds each request until told, then fills it; `words` (Int32, shared): requests held, told, turns
 * that came to their end.
 */
function holds({ words }) {
  const shared = new Int32Array(words);
  return {
    ...plain(),
    handleKick(vq) {
      vq.drain(({ writable }) => {
        Atomics.add(shared, 0, 1);
        Atomics.wait(shared, 1, 0);
        writable.fill(0, writable.bytes, 0xee);
        return writable.bytes;
      });
      if (shared.length > 2) Atomics.add(shared, 2, 1);
    },
  };
}

/** Takes a millisecond for each request. */
const slow = () => ({
  ...plain(),
  handleKick: (vq) =>
    vq.drain(() => {
      for (const end = performance.now() + 1; performance.now() < end; );
      return 0;
    }),
});

/** Answers later, which `drain` does not wait for. */
const promises = () => ({ ...plain(), handleKick: (vq) => vq.drain(async () => 4) });

/** Answers with more than it wrote, as `drain` must cut. */
const boasts = () => ({ ...plain(), handleKick: (vq) => vq.drain(() => 0xffffffff) });

// At its first request: not at the turn that each queue gets at the start.
const atRequest = (how) => (vq) => vq.hasWork() && how();
const dies = (how) => ({ ...plain(), handleKick: atRequest(how) });

function eatsMemory() {
  // In small pieces: one that is larger than V8's margin before the limit ends the whole program.
  let kept;
  for (;;) kept = { kept, more: [1, 2, 3, 4] };
}

/** A disk whose back-end counts flushes and fails when told, in `options.words` (Int32, shared). */
function countingBlk({ sizeBytes, words, queues = 1 }, { memory, shared }) {
  const counts = new Int32Array(words); // 0: flushes, 1: fail all but the next n, 2: closed
  const inner = new MemoryBackend(new SharedArrayBuffer(sizeBytes), false, memory);
  const unlessFailing =
    (method) =>
    (...args) => {
      if (Atomics.load(counts, 1) !== 0) return -5;
      return inner[method](...args);
    };
  const backend = {
    sizeBytes,
    isReadOnly: false,
    read: unlessFailing("read"),
    readv: unlessFailing("readv"),
    write: unlessFailing("write"),
    writev: unlessFailing("writev"),
    writeZeroes: unlessFailing("writeZeroes"),
    discard: unlessFailing("discard"),
    flush: () => {
      Atomics.add(counts, 0, 1);
      return Atomics.load(counts, 1) !== 0 ? -5 : 0;
    },
    close: () => void Atomics.add(counts, 2, 1),
  };
  return new BlkDevice(backend, "counting", queues, 64, shared);
}

/** Answers, and writes a byte so far before the room for the answer that it is nobody's. */
const scribbles = ({ before }, { memory }) => ({
  ...plain(2),
  handleKick: (vq) =>
    vq.drain(({ writable }) => {
      new Uint8Array(memory.buffer)[writable.address(0) - before] ^= 0xff;
      writable.fill(0, writable.bytes, 0xee);
      return writable.bytes;
    }),
});

/** Writes into the room for an answer and says that it did not. */
const belies = () => ({
  ...plain(),
  handleKick: (vq) =>
    vq.drain(({ writable }) => {
      writable.fill(0, writable.bytes, 0xee);
      return 0;
    }),
});

/** Answers the first requests with a 1, and all that come later with a 2. */
function tires({ after }) {
  let served = 0;
  const serve = ({ writable }) => {
    writable.fill(0, 1, served++ < after ? 1 : 2);
    return 1;
  };
  return { ...plain(), handleKick: (vq) => vq.drain(serve) };
}

/** Echoes later, the youngest first: after `ms`, or when it has so `many`. */
function later({ ms = 5, many = 8, queues = 1 }) {
  let held = [];
  let due = Number.POSITIVE_INFINITY;
  function answer() {
    for (const { vq, chain } of held.reverse()) {
      const bytes = new Uint8Array(chain.readable.bytes);
      chain.readable.read(0, bytes);
      vq.answer(chain, chain.writable.write(0, bytes));
    }
    for (const vq of new Set(held.map(({ vq }) => vq))) vq.flush();
    held = [];
    due = Number.POSITIVE_INFINITY;
  }
  return {
    ...plain(queues),
    answersLater: true,
    handleKick: (vq) =>
      vq.drain((chain) => {
        held.push({ vq, chain: vq.hold(chain) });
        due = performance.now() + ms;
        return HELD;
      }),
    poll() {
      if (held.length < many && performance.now() < due) return false;
      answer();
      return true;
    },
    sleepMsMax: () => (held.length < many ? Math.max(0, due - performance.now()) : 0),
    async settle(how, index) {
      if (how === "finish") answer();
      held = held.filter(({ vq }) => index !== undefined && vq.index !== index);
      if (held.length === 0) due = Number.POSITIVE_INFINITY;
    },
  };
}

/**
 * Echoes numbered requests, in any number of workers. `words` (Int32, shared): for each queue the
 * number that comes next, and how many came out of turn; behind them, how often each number came.
 * With `many`, it holds so many before it answers them, the youngest first; or for a millisecond.
 */
function numbered({ words, queues, many = 0 }) {
  const shared = new Int32Array(words);
  let held = [];
  let due = 0;
  const serve = (index, { readable, writable }) => {
    const bytes = new Uint8Array(readable.bytes);
    readable.read(0, bytes);
    const number = new DataView(bytes.buffer).getUint32(0, true);
    if (Atomics.exchange(shared, 2 * index, number + 1) !== number) {
      Atomics.add(shared, 2 * index + 1, 1);
    }
    Atomics.add(shared, 2 * queues + index + queues * number, 1);
    return writable.write(0, bytes);
  };
  const answer = () => {
    for (const { vq, chain, used } of held.reverse()) vq.answer(chain, used);
    for (const vq of new Set(held.map(({ vq }) => vq))) vq.flush();
    held = [];
  };
  const hold = (vq) => (chain) => {
    due = performance.now() + 1;
    held.push({ vq, chain: vq.hold(chain), used: serve(vq.index, chain) });
    return HELD;
  };
  const now = { handleKick: (vq) => vq.drain((chain) => serve(vq.index, chain)) };
  const afterwards = {
    answersLater: true,
    handleKick: (vq) => vq.drain(hold(vq)),
    poll() {
      if (held.length === 0) return false;
      if (held.length < many && performance.now() < due) return true; // it does not sleep
      answer();
      return true;
    },
    async settle(how, index) {
      if (how === "finish") answer();
      held = held.filter(({ vq }) => index !== undefined && vq.index !== index);
    },
  };
  return { ...plain(queues), shared: true, ...(many > 0 ? afterwards : now) };
}

/** As `hangs` and `throws`, in any number of workers: a request of a zero ends the thread. */
function fragile({ queues }) {
  const serve = ({ readable, writable }) => {
    if (readable.u32(0) === 0) throw new TypeError("a zero");
    writable.fill(0, 4, 1);
    return 4;
  };
  return { ...plain(queues), shared: true, handleKick: (vq) => vq.drain(serve) };
}

/** Echoes, and can't be asked to settle queue 0. */
const unsettled = () => ({
  ...echo({ queues: 2 }),
  answersLater: true,
  settle: async (_how, index) => {
    if (index === 0) throw new RangeError("it does not settle");
  },
});

/** Misuses chains that it holds, one `mistake` at a time. */
const misholds = ({ mistake }) => ({
  ...plain(),
  answersLater: true,
  handleKick: (vq) =>
    vq.drain((chain) => {
      if (mistake === "HELD without hold") return HELD;
      const held = vq.hold(chain);
      if (mistake === "hold without HELD") return 0;
      vq.answer(held, mistake === "no number" ? Number.NaN : 0);
      if (mistake === "answered twice") vq.answer(held, 0);
      if (mistake === "flush in drain") vq.flush();
      return HELD;
    }),
  settle: async () => {},
});

/** Answers a kick by a promise, which nobody waits for. */
const kicksAsync = () => ({ ...plain(), handleKick: atRequest(async () => {}) });

/** Says what the test says: no device, or one with something wrong. */
const odd = ({ fields, isNone = false }) => (isNone ? null : { ...plain(), ...fields });

const devices = {
  echo,
  odd,
  later,
  misholds,
  unsettled,
  numbered,
  fragile,
  kicksAsync,
  scribbles,
  belies,
  tires,
  plain: () => plain(),
  hangs,
  holds,
  promises,
  slow,
  boasts,
  waits,
  countingBlk,
  throws: () =>
    dies(() => {
      throw new TypeError("the device met a bug of its own");
    }),
  exitsInReset: () => ({ ...plain(2), resetQueue: () => process.exit(3) }),
  exits: () => dies(() => process.exit(3)),
  spins: () =>
    dies(() => {
      for (;;);
    }),
  eatsMemory: () => dies(eatsMemory),
  tooManyQueues: () => plain(33),
  noQueues: () => plain(0),
  closeThrows: () => ({
    ...plain(),
    close: () => {
      throw new Error("close failed");
    },
  }),
  resetThrows: () => ({
    ...plain(),
    reset: resetThrowsSecond(),
  }),
  createThrows: () => {
    throw new RangeError("no such device today");
  },
  createRejects: async () => {
    await null;
    throw new RangeError("not later either");
  },
  /** Nothing in the thread's event loop: it can only end. */
  createNeverResolves: () => new Promise(() => {}),
  /** Something in its event loop: it goes on waiting. `words`, if any: set when it waits. */
  createWaits: ({ words = new SharedArrayBuffer(4) }) => {
    Atomics.store(new Int32Array(words), 0, 1);
    return new Promise((resolve) => setInterval(resolve, 1 << 30, plain()));
  },
};

/** The reset before the first start works. */
function resetThrowsSecond() {
  let count = 0;
  return () => {
    if (++count > 1) throw new Error("reset failed");
  };
}

export function createDevice(options, environment) {
  return devices[options.how](options, environment);
}
