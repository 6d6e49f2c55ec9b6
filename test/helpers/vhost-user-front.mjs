// A front-end in a process of its own. It does what it reads from its standard input, a line each,
// and prints what came of it as JSON: connect <path…>, share <path…>, io <path>, flood <path> <ms>,
// limit <count>, close, quit.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { FrontEnd, u32s } from "#dist/bench/front-end.js";
import { makeEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { Readiness } from "#dist/linux/readiness.js";

process.title = "front-vm"; // its comm, too
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const fronts = [];
new Readiness(makeEventfd()); // its thread is made now: later there may be a limit

/** Resolves with false when it was not served. */
async function connect(path) {
  const front = new FrontEnd(path);
  fronts.push(front);
  try {
    await front.negotiate(~0n);
    await front.setMemory();
    return front;
  } catch {
    return undefined;
  }
}

/** One request, waited for by looking: header, data, status at `at`. */
function request(front, queue, at, { type, sector = 0, data, length = 0 }) {
  const { bytes, view } = front.shared;
  view.setUint32(at, type, true);
  view.setUint32(at + 4, 0, true);
  view.setBigUint64(at + 8, BigInt(sector), true);
  bytes[at + 16] = 0xff;
  if (data) bytes.set(data, at + 512);
  const tables = queue.tables;
  const size = data?.length ?? length;
  tables.setIov(0, at, 16);
  if (size > 0) tables.setIov(1, at + 512, size);
  tables.setIov(size > 0 ? 2 : 1, at + 16, 1);
  tables.setChain(0, 0, data ? 2 : 1, size > 0 && !data ? 2 : 1);
  queue.ring.addBufs(1);
  queue.ring.publish();
  if (queue.ring.kickNeeded()) signalEventfd(queue.kickFd);
  while (queue.ring.getBufs(1) !== 1);
  return bytes[at + 16];
}

/** Writes blocks that tell their number, flushes each, and says so, until it is killed. */
async function io(path) {
  const front = await connect(path);
  const queue = await front.startQueue(0, 16);
  const at = front.shared.allocGuest(8192, 4096);
  const data = new Uint8Array(4096);
  for (let count = 0; ; count++) {
    const number = Number(process.env.FIRST ?? 0) + count;
    new Uint32Array(data.buffer).fill(number + 1);
    const block = number % 256;
    const wrote = request(front, queue, at, { type: 1, sector: block * 8, data });
    const flushed = request(front, queue, at, { type: 4 });
    print({ event: "flushed", number, ok: wrote === 0 && flushed === 0 });
    if (count % 8 === 0) await new Promise(setImmediate);
  }
}

/** Sends messages that have no answer, as fast as it can, for a while. */
async function flood(path, ms) {
  const front = new FrontEnd(path);
  const many = new Uint8Array(Buffer.concat(Array.from({ length: 500 }, () => u32s(3, 1, 0))));
  print({ event: "flooding" });
  for (const end = performance.now() + Number(ms); performance.now() < end; ) {
    try {
      front.socket.send(many);
    } catch (error) {
      if (error.code !== "EAGAIN") break; // full: that is what is wanted
    }
  }
  print({ event: "flooded" });
}

const commands = {
  connect: async (...paths) => {
    const served = [];
    for (const path of paths) served.push((await connect(path)) !== undefined);
    print({ event: "connected", served });
  },
  /** A disk each, all in the memory of the first. */
  share: async (...paths) => {
    for (const path of paths) fronts.push(new FrontEnd(path));
    const [first] = fronts;
    const table = new Uint8Array(Buffer.concat([u32s(1, 0), first.region()]));
    for (const front of fronts) {
      await front.negotiate(~0n);
      await front.must("SET_MEM_TABLE", table, [first.memfd]);
      first.features = front.features;
      const queue = first.makeQueue(0, 16);
      await front.attach(queue);
      signalEventfd(queue.kickFd);
      const at = first.shared.allocGuest(8192, 4096);
      const status = request(first, queue, at, { type: 0, length: 512 });
      print({ event: "shared", status });
    }
  },
  io,
  flood,
  /** RLIMIT_NPROC, the soft one. */
  limit: (count) => {
    const koffi = createRequire(import.meta.url)("koffi");
    const limits = new BigUint64Array(new ArrayBuffer(16));
    const call = (text) => koffi.load(null).func(text)(6, limits);
    call("int getrlimit(int resource, void *limits)");
    limits[0] = BigInt(count);
    const result = call("int setrlimit(int resource, void *limits)");
    print({ event: "limited", result });
  },
  close: () => {
    for (const front of fronts.splice(0)) front.close();
    print({ event: "closed" });
  },
  quit: () => process.exit(0),
};
createInterface({ input: process.stdin }).on("line", async (line) => {
  const [name, ...args] = line.split(" ");
  try {
    await commands[name](...args);
  } catch (error) {
    print({ event: "failed", message: error.message });
  }
});
print({ event: "ready" });
