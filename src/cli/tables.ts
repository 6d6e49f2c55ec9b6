import Table from "cli-table3";
import type { PsRow } from "../kernel/ps.js";
import type { Run } from "./demo-runs.js";
import type { Contrast } from "./explain.js";

/** Lines without colours: they are copied into files and read by other programs. */
const PLAIN = { style: { head: [], border: [], compact: true } };

/** The task table as a tree. */
export function processTable(rows: readonly PsRow[]): string {
  const head = ["PID", "PPID", "COMMAND", "FLAGS", "UID", "NPROC", "CGROUP", "TIME", "S"];
  const table = new Table({ ...PLAIN, head });
  for (const row of rows) {
    const { depth, pid, ppid, comm, flagNames, uid, nprocLimit, cgroup, state } = row;
    const time = `${(row.cpuTimeUs / 1000).toFixed(0)} ms`;
    const command = `${"  ".repeat(depth)}${comm}`;
    table.push([pid, ppid, command, flagNames.join("\n"), uid, nprocLimit, cgroup, time, state]);
  }
  return table.toString();
}

/** Properties of a worker, as a user worker has them and as a kernel thread. */
export function contrastTable(rows: readonly Contrast[]): string {
  const table = new Table({ ...PLAIN, head: ["PROPERTY", "USER WORKER", "KERNEL THREAD"] });
  for (const { property, userWorker, kthread } of rows) table.push([property, userWorker, kthread]);
  return table.toString();
}

/** What each pass came to. */
export function runTable(runs: Record<string, Run>): string {
  const head = ["PASS", "MB", "REQUESTS", "SECONDS", "MB/S", "REQUESTS/S"];
  const table = new Table({
    ...PLAIN,
    head,
    colAligns: ["left", "right", "right", "right", "right", "right"],
  });
  for (const [name, { bytes, requests, milliseconds }] of Object.entries(runs)) {
    const seconds = milliseconds / 1000;
    table.push([
      name,
      (bytes / 1e6).toFixed(1),
      requests,
      seconds.toFixed(2),
      (bytes / 1e6 / seconds).toFixed(0),
      (requests / seconds).toFixed(0),
    ]);
  }
  return table.toString();
}
