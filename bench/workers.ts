import { type Case, compare, type Work } from "./harness.js";
import { type MakePeer, messagePeers, PEERS, type Peer } from "./workers-peers.js";

/** What is inside the timed part. */
export const WORKERS_NOTE = `Workers as vhost has them, made by copyProcess from their owner (a user
worker) or from kthreadd (a kernel thread), beside a thread that a program makes by itself:
create     until the thread has run its first line; one at a time
wake-up    a question to a thread that sleeps, or is about to, and its answer: by words of shared
           memory and Atomics, or (messages) by postMessage both ways
stop       until the thread has ended: told so in its sleep; or (terminate) by worker.terminate()`;

/** How many a sample: threads made or stopped, and questions. */
export interface WorkersAmount {
  rounds: number;
  threads: number;
  questions: number;
}

/** Asks one more question of each new thread: that is the work's checksum, and not timed. */
function threadWork(name: string, make: MakePeer, count: number, timed: "create" | "stop"): Work {
  let sum = 0;
  let asked = 0;
  const run = async () => {
    const start = performance.now();
    const peers: Peer[] = [];
    for (let i = 0; i < count; i++) peers.push(make());
    const created = performance.now();
    for (const peer of peers) sum = (sum + (await peer.ask(++asked))) | 0;
    const stopping = performance.now();
    for (const peer of peers) await peer.stop();
    return timed === "create" ? created - start : performance.now() - stopping;
  };
  return { name, isAsync: true, run, checksum: () => sum };
}

/** A thread is made with the first question, and is the work's until `stop`. */
function wakeWork(name: string, make: MakePeer, count: number): Work & { stop(): Promise<void> } {
  let sum = 0;
  let asked = 0;
  let peer: Peer | undefined;
  const run = async () => {
    peer ??= make();
    const start = performance.now();
    for (let i = 0; i < count; i++) sum = (sum + (await peer.ask(++asked))) | 0;
    return performance.now() - start;
  };
  return { name, isAsync: true, run, checksum: () => sum, stop: async () => peer?.stop() };
}

const USER_WORKER = "user worker";
const KTHREAD = "kernel thread";
const BARE = "new Worker()";

async function wakeUps({ rounds, questions: items }: WorkersAmount): Promise<Case> {
  const works = [
    wakeWork(USER_WORKER, PEERS.userWorker, items),
    wakeWork(KTHREAD, PEERS.kthread, items),
    wakeWork(BARE, PEERS.told, items),
    wakeWork("messages", messagePeers, items),
  ];
  try {
    const measured = await compare(works, { rounds, samples: 1, items });
    return caseOf("wake-up", works, measured);
  } finally {
    await Promise.all(works.map((work) => work.stop()));
  }
}

const caseOf = (name: string, works: readonly Work[], measured: Case["measured"]): Case => ({
  bench: "workers",
  name,
  facts: {},
  sameWork: works.map((work) => work.name),
  measured,
});

/** Creation, wake-up and stop. All threads are gone after it. */
export async function benchWorkers(amount: WorkersAmount): Promise<Case[]> {
  const { rounds, threads: items } = amount;
  const threads = async (timed: "create" | "stop") => {
    const works = [
      threadWork(USER_WORKER, PEERS.userWorker, items, timed),
      threadWork(KTHREAD, PEERS.kthread, items, timed),
      threadWork(BARE, PEERS.told, items, timed),
      ...(timed === "stop" ? [threadWork("terminate", PEERS.terminated, items, timed)] : []),
    ];
    return caseOf(timed, works, await compare(works, { rounds, samples: 1, items }));
  };
  return [await threads("create"), await wakeUps(amount), await threads("stop")];
}
