import { Argument, Command } from "commander";
import { BLK_NOTE, benchBlk } from "./blk.js";
import { canServe } from "./blk-peers.js";
import {
  BLK_VHOST_USER_NOTE,
  benchFileOverVhostUser,
  benchNullOverVhostUser,
} from "./blk-vhost-user.js";
import { benchCpuMax, CPU_MAX_NOTE } from "./cpu-max.js";
import {
  benchFormats,
  benchFormatsThreads,
  FORMATS_NOTE,
  FORMATS_THREADS_NOTE,
} from "./formats.js";
import type { Case } from "./harness.js";
import { benchHostile, HOSTILE_NOTE } from "./hostile.js";
import { benchIo, benchIoSlow, IO_NOTE, IO_SLOW_NOTE } from "./io.js";
import { benchIoRings, IO_RINGS_NOTE } from "./io-rings.js";
import { benchLatency, LATENCY_NOTE } from "./latency.js";
import { benchChecksum, benchSwitch, CHECKSUM_NOTE, SWITCH_NOTE } from "./net.js";
import { benchNetBurst, NET_BURST_NOTE } from "./net-burst.js";
import { benchNetDpdk, NET_DPDK_NOTE } from "./net-dpdk.js";
import { canBenchDpdk } from "./net-dpdk-peers.js";
import { benchQueues, QUEUES_NOTE } from "./queues.js";
import { header, outcomeLine, outcomes, table } from "./report.js";
import { benchRing, RING_NOTE } from "./ring.js";
import { benchThreads, THREADS_NOTE } from "./threads.js";
import { benchVsock, VSOCK_NOTE } from "./vsock.js";
import { benchWorkers, WORKERS_NOTE } from "./workers.js";

/** One table. */
interface BenchEntry {
  note: string;
  full: () => Promise<Case[]>;
  smoke: () => Promise<Case[]>;
}

const RING: BenchEntry = {
  note: RING_NOTE,
  full: () => benchRing({ rounds: 21, samples: 9, items: 4096 }),
  smoke: () => benchRing({ rounds: 1, samples: 1, items: 128 }),
};

const FORMATS: BenchEntry = {
  note: FORMATS_NOTE,
  full: () => benchFormats({ rounds: 21, samples: 5, items: 4096 }),
  smoke: () => benchFormats({ rounds: 1, samples: 1, items: 128 }),
};

const FORMATS_THREADS: BenchEntry = {
  note: FORMATS_THREADS_NOTE,
  full: () => benchFormatsThreads({ rounds: 15, samples: 1, items: 200_000 }),
  smoke: () => benchFormatsThreads({ rounds: 1, samples: 1, items: 1_024 }),
};

const THREADS: BenchEntry = {
  note: THREADS_NOTE,
  full: () =>
    benchThreads({
      rounds: 15,
      buffers: 500_000,
      messages: 20_000,
      pingPongBuffers: 20_000,
      pingPongMessages: 1_000,
    }),
  smoke: () =>
    benchThreads({
      rounds: 1,
      buffers: 2_000,
      messages: 100,
      pingPongBuffers: 20,
      pingPongMessages: 10,
    }),
};

const WORKERS: BenchEntry = {
  note: WORKERS_NOTE,
  full: () => benchWorkers({ rounds: 15, threads: 8, questions: 2_000 }),
  smoke: () => benchWorkers({ rounds: 1, threads: 1, questions: 20 }),
};

const BLK: BenchEntry = {
  note: BLK_NOTE,
  full: () => benchBlk({ rounds: 9, samples: 1, items: 2_000 }),
  smoke: () => benchBlk({ rounds: 1, samples: 1, items: 50 }),
};

const IO_RINGS: BenchEntry = {
  note: IO_RINGS_NOTE,
  full: () => benchIoRings({ rounds: 21, samples: 9, items: 4096 }),
  smoke: () => benchIoRings({ rounds: 1, samples: 1, items: 128 }),
};

const IO: BenchEntry = {
  note: IO_NOTE,
  full: () => benchIo({ rounds: 9, samples: 1, items: 2_000 }),
  smoke: () => benchIo({ rounds: 1, samples: 1, items: 50 }),
};

const IO_SLOW: BenchEntry = {
  note: IO_SLOW_NOTE,
  full: () => benchIoSlow({ rounds: 7, samples: 1, items: 100 }),
  smoke: () => benchIoSlow({ rounds: 1, samples: 1, items: 5 }),
};

const HOSTILE: BenchEntry = {
  note: HOSTILE_NOTE,
  full: () => benchHostile({ rounds: 11, samples: 1, items: 1_000 }),
  smoke: () => benchHostile({ rounds: 1, samples: 1, items: 20 }),
};

const CPU_MAX: BenchEntry = {
  note: CPU_MAX_NOTE,
  full: () => benchCpuMax({ rounds: 9, samples: 1, items: 5_000 }),
  smoke: () => benchCpuMax({ rounds: 1, samples: 1, items: 100 }),
};

const NULL_OVER_VHOST_USER: BenchEntry = {
  note: BLK_VHOST_USER_NOTE,
  full: () => benchNullOverVhostUser({ rounds: 9, samples: 1, items: 200_000 }),
  smoke: () => benchNullOverVhostUser({ rounds: 1, samples: 1, items: 500 }),
};

const FILE_OVER_VHOST_USER: BenchEntry = {
  note: "The same from a file.",
  full: () => benchFileOverVhostUser({ rounds: 9, samples: 1, items: 50_000 }),
  smoke: () => benchFileOverVhostUser({ rounds: 1, samples: 1, items: 500 }),
};

const VSOCK: BenchEntry = {
  note: VSOCK_NOTE,
  full: () => benchVsock({ rounds: 9, samples: 1, items: 1_000 }),
  smoke: () => benchVsock({ rounds: 1, samples: 1, items: 20 }),
};

const CHECKSUM: BenchEntry = {
  note: CHECKSUM_NOTE,
  full: () => benchChecksum({ rounds: 15, samples: 9, items: 2_048 }),
  smoke: () => benchChecksum({ rounds: 1, samples: 1, items: 16 }),
};

const SWITCH: BenchEntry = {
  note: SWITCH_NOTE,
  full: () => benchSwitch({ rounds: 9, samples: 1, items: 12_800 }),
  smoke: () => benchSwitch({ rounds: 1, samples: 1, items: 128 }),
};

const NET_BURST: BenchEntry = {
  note: NET_BURST_NOTE,
  full: () => benchNetBurst({ rounds: 9, samples: 9, items: 16 }),
  smoke: () => benchNetBurst({ rounds: 1, samples: 1, items: 1 }),
};

const NET_DPDK: BenchEntry = {
  note: NET_DPDK_NOTE,
  full: () => benchNetDpdk({ rounds: 3, samples: 3, items: 1 }),
  smoke: () => benchNetDpdk({ rounds: 1, samples: 1, items: 1 }, true),
};

const QUEUES: BenchEntry = {
  note: QUEUES_NOTE,
  full: () => benchQueues({ rounds: 9, samples: 1, items: 5_000 }),
  smoke: () => benchQueues({ rounds: 1, samples: 1, items: 64 }),
};

const LATENCY: BenchEntry = {
  note: LATENCY_NOTE,
  full: () => benchLatency({ rounds: 9, requests: 5_000 }),
  smoke: () => benchLatency({ rounds: 1, requests: 20 }),
};

const OVER_VHOST_USER = canServe() ? [NULL_OVER_VHOST_USER, FILE_OVER_VHOST_USER] : [];

const WITHOUT_DPDK = "Without testpmd beside net_vhost: dpdk-testpmd, of Debian's dpdk-dev.";

const BENCHES: Record<string, BenchEntry[]> = {
  ring: [RING],
  formats: [FORMATS, FORMATS_THREADS],
  threads: [THREADS],
  workers: [WORKERS],
  io: [IO_RINGS, IO, IO_SLOW],
  blk: [BLK, ...OVER_VHOST_USER],
  queues: [QUEUES],
  latency: [LATENCY],
  hostile: [HOSTILE],
  net: [CHECKSUM, SWITCH, NET_BURST, ...(canBenchDpdk() ? [NET_DPDK] : [])],
  vsock: [VSOCK],
  "cpu-max": [CPU_MAX],
};

interface Flags {
  smoke?: boolean;
  json?: boolean;
}

async function main(
  names: readonly string[],
  { smoke = false, json = false }: Flags,
): Promise<void> {
  const say = (text: string) => json || console.log(text);
  const head = header();
  say(`${head}${smoke ? " — SMOKE: sizes too small for the numbers to mean anything" : ""}\n`);
  const cases: Case[] = [];
  for (const name of names) {
    say(`── ${name} ──`);
    if (name === "net" && !canBenchDpdk()) say(WITHOUT_DPDK);
    for (const { note, full, smoke: small } of BENCHES[name] as BenchEntry[]) {
      const results = await (smoke ? small() : full());
      cases.push(...results);
      say(`${note}\n${table(results)}\n`);
    }
  }
  const targets = outcomes(cases);
  const isWhole = names.length === Object.keys(BENCHES).length;
  const told = targets.filter(({ worst }) => isWhole || worst !== undefined);
  for (const target of told) say(outcomeLine(target, smoke));
  if (json) console.log(JSON.stringify({ header: head, smoke, cases, targets }));
}

process.once("SIGINT", () => process.exit(130)); // what is to be removed at the end, is
const names = Object.keys(BENCHES);
await new Command("bench")
  .description("Measures the rings; every ratio compares works done in turn in the same run.")
  .showHelpAfterError("Run with --help to see what there is.")
  .addArgument(new Argument("[benches...]", "which ones").choices(names).default(names))
  .option("--smoke", "tiny sizes, a few seconds: does it run, are the checksums equal")
  .option("--json", "one line of JSON and nothing else")
  .action(main)
  .parseAsync();
