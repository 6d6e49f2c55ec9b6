import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const other = main.fork();
  other.setuid(20018);
  other.setrlimit("NPROC", 10);
  other.fork();
  const child = main.fork();
  child.setrlimit("NPROC", 1, 10);
  const setuid = child.setuid(20018);
  const flagged = child.stat(child.tid).flagNames.includes("NPROC_EXCEEDED");
  const fork = attempt(() => child.fork());
  const exec = attempt(() => child.exec("other"));
  child.setrlimit("NPROC", 9);
  return { setuid, flagged, fork, exec, exec_limit_9: attempt(() => child.exec("other")) };
}
