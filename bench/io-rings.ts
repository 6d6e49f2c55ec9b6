import { loadIouRings } from "#dist/io-uring/load.js";
import { allocIouMemory } from "#dist/io-uring/state-block.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import type { RingKind } from "#dist/ring/load.js";
import {
  CQE_USER_DATA,
  IO_URING_CQE_BYTES,
  IOU_CQES,
  IOU_TABLE,
  SQE_RECORD_BYTES,
  SQE_USER_DATA,
} from "#dist/spec/io-uring.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";

/** What is inside the timed part. */
export const IO_RINGS_NOTE = `The rings of io_uring alone, in one thread, a whole cycle a request:
getSqe and its user data, submit, takeSqes, the CQE written, postCqes, peekCqes and its user data
read, advance; all but getSqe once a burst.`;

const BURSTS = [1, 8, 32, 128];

/** A sample of `count` requests, `burst` at a time. */
function ringWork(kind: RingKind, burst: number, count: number): Work {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const shared = SharedMemory.of(memory);
  const layout = allocIouMemory(shared, { entries: 128 });
  const rings = loadIouRings(memory, kind);
  const application = rings.application(layout.application);
  const kernel = rings.kernel(layout.kernel);
  application.reset();
  kernel.reset();
  const { view } = shared;
  const taken = view.getUint32(layout.kernel + IOU_TABLE, true);
  const cqes = view.getUint32(layout.kernel + IOU_CQES, true);
  const peeked = view.getUint32(layout.application + IOU_TABLE, true);
  let sum = 0;
  const cycle = (first: number) => {
    for (let i = 0; i < burst; i++) {
      view.setUint32(application.getSqe() + SQE_USER_DATA, first + i, true);
    }
    application.submit();
    const got = kernel.takeSqes(burst);
    for (let i = 0; i < got; i++) {
      const userData = view.getUint32(taken + i * SQE_RECORD_BYTES + SQE_USER_DATA, true);
      view.setUint32(cqes + i * IO_URING_CQE_BYTES + CQE_USER_DATA, userData, true);
    }
    kernel.postCqes(got);
    const done = application.peekCqes(burst);
    for (let i = 0; i < done; i++) {
      sum = (sum * 31 + view.getUint32(peeked + i * IO_URING_CQE_BYTES + CQE_USER_DATA, true)) | 0;
    }
    application.advance(done);
  };
  const run = () => {
    for (let first = 0; first < count; first += burst) cycle(first);
  };
  return { name: kind, isAsync: false, run, checksum: () => sum };
}

/** The rings alone: WebAssembly beside TypeScript. */
export async function benchIoRings(amount: Amount): Promise<Case[]> {
  const cases: Case[] = [];
  for (const burst of BURSTS) {
    const works = (["wasm", "ts"] as const).map((kind) => ringWork(kind, burst, amount.items));
    const measured = await compare(works, amount);
    const sameWork = works.map(({ name }) => name);
    const name = `rings, bursts of ${burst}`;
    cases.push({ bench: "io", name, facts: { burst }, sameWork, measured });
  }
  return cases;
}
