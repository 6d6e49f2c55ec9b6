// What every thread of a task runs first: fetches the named function and gives it its argument.
// Linux: ret_from_fork(), which calls args->fn(args->fn_arg) and exits with what it returns.
import { writeFileSync } from "node:fs";
import { workerData } from "node:worker_threads";
import { VhostError } from "../spec/errno.js";
import { CpuAccount, threadClocks } from "./cpu-account.js";
import { CurrentTask } from "./task-thread.js";
import type { ThreadData } from "./thread.js";

/** As `ps -L` and top show it. Where there is no such file, Node's own name has to do. */
function nameThread(comm: string): void {
  try {
    writeFileSync("/proc/thread-self/comm", comm);
  } catch {}
}

const { fn, arg, words, cgroups, name, keepsFiles } = workerData as ThreadData;
nameThread(name);
const account = cgroups && new CpuAccount(words, cgroups, threadClocks(keepsFiles));
const current = new CurrentTask(words, account);
const entry = (await import(fn.module))[fn.name];
if (typeof entry !== "function") {
  throw new VhostError("ENOENT", `${fn.module} exports no function ${fn.name}`, { ...fn });
}
const code: unknown = await entry(arg, current);
current.chargeCpu();
process.exit(typeof code === "number" ? code : 0); // open handles don't keep it: returning ends it
