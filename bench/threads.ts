import { type Case, compare, type Work } from "./harness.js";
import { Peer, RingLink } from "./link.js";
import type { BufferMessage } from "./threads-worker.js";

/** What is inside the timed part. */
export const THREADS_NOTE = `Two threads: the driver in this one, the device in another, both \
spinning; EVENT_IDX on, chains of 1. Needs two cores for itself: on a busy machine both wait for
their turn instead, and the numbers mean little.
through    as many in flight as the ring of 512 holds: from the first addBufs to the last getBufs,
           records and iovecs written and read as in the ring bench; a buffer goes there and back
MessagePort, through: postMessage({id, len}) one way, from the first to the answer after the last
ping-pong  one in flight: a buffer, or a message, there and back`;

const NUM = 512;
const BURST = 128;
/** A sample of `count` messages, one way, or one at a time and back. */
function messageWork(peer: Peer, count: number, isPingPong: boolean): Work {
  let sum = 0;
  const run = async () => {
    let id = 0;
    const send = () => peer.port.postMessage({ id: id++, len: 4096 } satisfies BufferMessage);
    const reply = peer.reply(() => {
      if (id < count) send();
    });
    await peer.order({ count, burst: 1, isPingPong });
    const start = performance.now();
    if (isPingPong) send();
    else while (id < count) send();
    sum = (sum + (await reply)) | 0;
    return performance.now() - start;
  };
  return { name: "MessagePort", isAsync: true, items: count, run, checksum: () => sum };
}

/** Items of each kind a sample: messages are slow, so they get fewer. */
export interface ThreadsAmount {
  rounds: number;
  buffers: number;
  messages: number;
  pingPongBuffers: number;
  pingPongMessages: number;
}

/** Buffers a second between two threads. Ends by itself; the other threads are gone after it. */
export async function benchThreads(amount: ThreadsAmount): Promise<Case[]> {
  const shape = { format: "split", inOrder: false, pieces: 1 } as const;
  await using wasm = await RingLink.make({ ...shape, name: "wasm", kind: "wasm" }, NUM);
  await using ts = await RingLink.make({ ...shape, name: "ts", kind: "ts" }, NUM);
  await using peer = new Peer();
  const run = async (name: string, depth: number, buffers: number, messages: number) => {
    const works = [
      wasm.work({ count: buffers, depth, burst: BURST }),
      ts.work({ count: buffers, depth, burst: BURST }),
      messageWork(peer, messages, depth === 1),
    ];
    const measured = await compare(works, { rounds: amount.rounds, samples: 1, items: buffers });
    return { bench: "threads", name, facts: { depth }, sameWork: ["wasm", "ts"], measured };
  };
  return [
    await run(`through, up to ${NUM} in flight`, NUM, amount.buffers, amount.messages),
    await run("ping-pong, 1 in flight", 1, amount.pingPongBuffers, amount.pingPongMessages),
  ];
}
