// DPDK's testpmd at the front-end's side of a network device, and either our back-end at the other
// or testpmd with net_vhost. Each runs for as long as a sample takes.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { canServe } from "./blk-peers.js";
import { median } from "./harness.js";

const TESTPMD = "dpdk-testpmd";
const SERVE = new URL("net-dpdk-serve.js", import.meta.url).pathname;
const START_MS_MAX = 20_000;
const QUEUE_SIZE = 256;
const MBUFS = 4096;
/** Who has which core. */
const FRONT_CORE = 0;
const BACK_CORE = 1;

/** Who serves the device. */
export type NetPeer = "vhost-wasm" | "net_vhost";

/** What each prints once it listens. */
const READY: Record<NetPeer, string> = { "vhost-wasm": "listening", net_vhost: "NIC statistics" };

/** What goes over the wire. */
export interface Traffic {
  /** From the guest's side, or to it. */
  isFromGuest: boolean;
  frameBytes: number;
  isPacked: boolean;
}

/** Whether there is all that it takes: testpmd, a core for each side, taskset, koffi. */
export function canBenchDpdk(): boolean {
  const isThere = (name: string) => spawnSync(name, ["--version"]).error === undefined;
  return availableParallelism() > BACK_CORE && canServe() && isThere("taskset") && isThere(TESTPMD);
}

/** A program with its output, killed with this one. */
class Running {
  readonly child: ChildProcess;
  output = "";

  constructor(command: string, args: string[]) {
    this.child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
    running.add(this);
    this.child.once("close", () => running.delete(this));
  }

  get isOver(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  async until(isMet: () => boolean): Promise<void> {
    for (const end = performance.now() + START_MS_MAX; !isMet(); await sleep(10)) {
      if (!this.isOver && performance.now() < end) continue;
      throw new Error(`${this.child.spawnargs.join(" ")} did not come up:\n${this.output}`);
    }
  }

  /** Ends it as its user would, and waits for that. */
  async stop(): Promise<void> {
    if (this.isOver) return;
    const closed = once(this.child, "close");
    this.child.kill("SIGINT");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), START_MS_MAX);
    await closed;
    clearTimeout(timer);
  }
}

const running = new Set<Running>();
let samples = 0;
process.once("exit", () => {
  for (const { child } of running) child.kill("SIGKILL");
});

function testpmd(core: number, vdev: string, mode: string, frameBytes: number): Running {
  return new Running(TESTPMD, [
    ...["--lcores", `0@${core},1@${core}`, "--no-huge", "-m", "256", "--no-pci", "--no-shconf"],
    ...["--no-telemetry", "--vdev", vdev, "--", "--auto-start", `--forward-mode=${mode}`],
    ...[`--txd=${QUEUE_SIZE}`, `--rxd=${QUEUE_SIZE}`, `--total-num-mbufs=${MBUFS}`],
    ...["--stats-period", "1", `--txpkts=${frameBytes}`],
  ]);
}

function startBack(peer: NetPeer, socket: string, { isFromGuest, frameBytes }: Traffic): Running {
  if (peer === "net_vhost") {
    const mode = isFromGuest ? "rxonly" : "txonly";
    return testpmd(BACK_CORE, `net_vhost0,iface=${socket},queues=1`, mode, frameBytes);
  }
  const sends = isFromGuest ? "0" : String(frameBytes);
  return new Running("taskset", ["-c", String(BACK_CORE), process.execPath, SERVE, socket, sends]);
}

/** Packets and bytes of a port so far, each second. */
function countsOf(output: string, isFromGuest: boolean): { packets: number; bytes: number }[] {
  const way = isFromGuest ? "TX" : "RX";
  const line = new RegExp(`${way}-packets: (\\d+) .*${way}-bytes: +(\\d+)`, "g");
  return [...output.matchAll(line)].map(([, packets, bytes]) => ({
    packets: Number(packets),
    bytes: Number(bytes),
  }));
}

/** What a sample found. */
export interface Sample {
  packetsPerSecond: number;
  frameBytes: number;
}

/** Packets a second as the front-end counts them: the median of so many seconds. */
export async function sample(
  peer: NetPeer,
  traffic: Traffic,
  folder: string,
  seconds: number,
): Promise<Sample> {
  const { isFromGuest, isPacked, frameBytes } = traffic;
  const socket = join(folder, `${samples++}.sock`);
  const back = startBack(peer, socket, traffic);
  try {
    await back.until(() => back.output.includes(READY[peer]));
    const packed = isPacked ? ",packed_vq=1" : "";
    const vdev = `net_virtio_user0,path=${socket},queues=1,queue_size=${QUEUE_SIZE}${packed}`;
    const front = testpmd(FRONT_CORE, vdev, isFromGuest ? "txonly" : "rxonly", frameBytes);
    try {
      const moving = () => countsOf(front.output, isFromGuest).filter(({ packets }) => packets > 0);
      await front.until(() => moving().length > seconds);
      const counts = moving().slice(0, seconds + 1);
      const rates = counts.slice(1).map(({ packets }, i) => packets - (counts[i]?.packets ?? 0));
      const last = counts.at(-1) as { packets: number; bytes: number };
      return { packetsPerSecond: median(rates), frameBytes: last.bytes / last.packets };
    } finally {
      await front.stop();
    }
  } finally {
    await back.stop();
  }
}
