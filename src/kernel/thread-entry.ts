// What every thread of a task runs first: fetches the named function and gives it its argument.
// Linux: ret_from_fork(), which calls args->fn(args->fn_arg) and exits with what it returns.
import { workerData } from "node:worker_threads";
import { VhostError } from "../spec/errno.js";
import { CurrentTask } from "./task-thread.js";
import type { ThreadData } from "./thread.js";

const { fn, arg, words } = workerData as ThreadData;
const entry = (await import(fn.module))[fn.name];
if (typeof entry !== "function") {
  throw new VhostError("ENOENT", `${fn.module} exports no function ${fn.name}`, { ...fn });
}
const code: unknown = await entry(arg, new CurrentTask(words));
process.exit(typeof code === "number" ? code : 0); // open handles don't keep it: returning ends it
