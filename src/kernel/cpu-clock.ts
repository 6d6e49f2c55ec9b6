import { openSync, readFileSync, readSync } from "node:fs";

/** How long the calling thread has run, in whole microseconds; it only grows. */
export interface CpuClock {
  read(): number;
  /**
   * Whether it is the time that passes: true while the thread does not sleep, too much while
   * another has its CPU. Else it stands still when the thread does not run.
   */
  readonly isWall: boolean;
}

/** In newer Nodes: from 23.9 on. */
type ThreadCpuUsage = () => { user: number; system: number };

/**
 * The best clock that there is, for the calling thread alone: `process.threadCpuUsage` (Node 23.9
 * and later: getrusage(RUSAGE_THREAD)); on Linux /proc/thread-self/schedstat, of which the first
 * number is the scheduler's own count in nanoseconds; else the time that passes. The first two are
 * brought up to date by the scheduler's tick (1 to 10 ms) and at every sleep: what one reading
 * misses is in the next. `keepsFiles`: nobody closes a file that the thread leaves open.
 */
export function threadCpuClock(keepsFiles = false): CpuClock {
  const { threadCpuUsage } = process as { threadCpuUsage?: ThreadCpuUsage };
  if (threadCpuUsage) {
    const read = () => {
      const { user, system } = threadCpuUsage.call(process);
      return Math.floor(user + system);
    };
    return { read, isWall: false };
  }
  return (
    schedstatClock(keepsFiles) ?? { read: () => Math.floor(performance.now() * 1000), isWall: true }
  );
}

const SCHEDSTAT_BYTES_MAX = 64;

/**
 * The file stays open, for a thread that has become somebody else, where Node closes it with the
 * thread; else it is opened for each reading, which takes some microseconds more.
 */
function schedstatClock(keepsFiles: boolean): CpuClock | undefined {
  const bytes = Buffer.alloc(SCHEDSTAT_BYTES_MAX);
  const path = "/proc/thread-self/schedstat";
  const readOpen = (fd: number) =>
    bytes.toString("latin1", 0, readSync(fd, bytes, 0, bytes.length, 0));
  const readOnce = () => readFileSync(path, "latin1");
  try {
    const fd = keepsFiles ? undefined : openSync(path, "r");
    const readText = fd === undefined ? readOnce : () => readOpen(fd);
    const [, , timesRun = "0"] = readText().trim().split(" ");
    if (timesRun === "0") return undefined; // a kernel that does not count
    return { read: () => Math.floor(Number.parseInt(readText(), 10) / 1000), isWall: false };
  } catch {
    return undefined;
  }
}
