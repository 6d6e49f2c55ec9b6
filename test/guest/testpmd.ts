// DPDK's testpmd beside a test.

import { accessSync, constants } from "node:fs";
import { Program } from "./program.js";
import { GUEST_REQUIRED, type GuestTools } from "./requirements.js";

const TESTPMD = "/usr/bin/dpdk-testpmd";
/** Entries of its queues. */
export const QUEUE_SIZE = 256;

function isThere(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Tests with testpmd are skipped. */
export const SKIPS_TESTPMD = !isThere(TESTPMD) && !GUEST_REQUIRED;

/** A group's name, with what is missing here. */
export const titleOf = (title: string) =>
  `${title}${SKIPS_TESTPMD ? " (missing: dpdk-testpmd, package dpdk-dev)" : ""}`;

/** Packets go round between its two ports. */
const ROUND = ["--forward-mode=io", "--tx-first", "--txonly-multi-flow"];

/**
 * Starts it with a virtio_user port at each socket. `mode`: what it does with packets; `queues`: of
 * each port, either way.
 */
export function startTestpmd(
  tools: GuestTools,
  sockets: string[],
  properties: string,
  { mode = ROUND, queues = 1 }: { mode?: string[]; queues?: number } = {},
): Program {
  const devices = sockets.flatMap((path, index) => [
    "--vdev",
    `net_virtio_user${index},path=${path},queues=${queues},queue_size=${QUEUE_SIZE}${properties}`,
  ]);
  return new Program(tools, TESTPMD, [
    ...["--lcores", "0@0,1@0", "--no-huge", "-m", "256", "--no-pci", "--no-shconf"],
    ...["--no-telemetry", ...devices, "--", "--auto-start", ...mode],
    ...[`--txd=${QUEUE_SIZE}`, `--rxd=${QUEUE_SIZE}`],
    ...[`--rxq=${queues}`, `--txq=${queues}`],
    ...["--stats-period", "1", `--total-num-mbufs=${4096 * queues}`],
  ]);
}

/** Whether each of its two ports has received so many packets, as it last said. */
export function hasReceived({ stdout }: Program, packets: number): boolean {
  const last = [...stdout.matchAll(/RX-packets: (\d+)/g)].slice(-2);
  return last.length === 2 && last.every(([, received]) => Number(received) > packets);
}

/** What a port has counted. */
export interface Forwarded {
  port: number;
  received: number;
  sent: number;
}

/** What testpmd has counted when it ends, by port. */
export function forwarded(output: string): Forwarded[] {
  const statistics =
    /Forward statistics for port (\d+)[\s-]+RX-packets: (\d+)[^T]+TX-packets: (\d+)/;
  const found = output.match(new RegExp(statistics, "g")) ?? [];
  return found.map((text) => {
    const [, port, received, sent] = statistics.exec(text) ?? [];
    return { port: Number(port), received: Number(received), sent: Number(sent) };
  });
}

/** Receive queues that got packets, of both ports, where there are several. */
export function busyQueues(output: string): number {
  const streams = output.matchAll(
    /Forward Stats for RX Port= \d+\/Queue= \d+[^:]+RX-packets: (\d+)/g,
  );
  return [...streams].filter(([, received]) => Number(received) > 0).length;
}
