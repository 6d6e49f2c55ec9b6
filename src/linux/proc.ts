import { readFileSync } from "node:fs";

/** What Linux says of a process. */
export interface ProcessFacts {
  /** Name of its program. */
  comm: string;
  /** When it began, in ticks since the machine did: with the pid, this names it for good. */
  startTime: string;
  /** RLIMIT_NPROC; Infinity is "unlimited". */
  nproc: { cur: number; max: number };
  /** Its control group, an absolute path. */
  cgroup: string;
}

const read = (pid: number, file: string) => readFileSync(`/proc/${pid}/${file}`, "utf8");

const toLimit = (text: string) => (text === "unlimited" ? Number.POSITIVE_INFINITY : Number(text));

/** Of cgroup v2's line, or of the line of v1's pids controller; "/" when there is neither. */
function cgroupOf(text: string): string {
  const lines = text.split("\n").map((line) => line.split(":"));
  const pids = lines.find(([, controllers]) => controllers?.split(",").includes("pids"));
  const unified = lines.find(([hierarchy]) => hierarchy === "0");
  const path = (pids ?? unified)?.slice(2).join(":") ?? "/";
  return path.startsWith("/") && !path.startsWith("/..") ? path : "/";
}

/** Whether there is a process of that number that we may know of. */
export function hasProcess(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Reads /proc; `undefined` when there is no such process any more, or none that we may see. */
export function processFacts(pid: number): ProcessFacts | undefined {
  try {
    const stat = read(pid, "stat");
    const [cur = "", max = ""] =
      / processes +(\S+) +(\S+)/.exec(read(pid, "limits"))?.slice(1) ?? [];
    return {
      comm: read(pid, "comm").trimEnd(),
      startTime: stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "",
      nproc: { cur: toLimit(cur), max: toLimit(max) },
      cgroup: cgroupOf(read(pid, "cgroup")),
    };
  } catch {
    return undefined;
  }
}
