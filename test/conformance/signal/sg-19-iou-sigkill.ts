import type { Proc, Scene, Seen } from "../machine/index.js";

/** Kills the process by the thread of that name; what was seen, by names that begin so. */
function kill(main: Proc, owner: Proc, name: string, prefix: string): Seen {
  const tid = owner.tasks().find((one) => owner.stat(one).comm.startsWith(name));
  return {
    [`${prefix}_found`]: tid !== undefined,
    [`${prefix}_tgkill`]: main.tgkill(owner.pid, tid ?? 0, "SIGKILL"),
    [`${prefix}_wait`]: main.wait(owner.pid),
  };
}

export function run({ main }: Scene): Seen {
  const worker = main.fork();
  worker.pipe();
  worker.ioUringSubmitAsync(worker.ioUringSetup());
  const poller = main.fork();
  poller.ioUringSetup({ sqpoll: true });
  return { ...kill(main, worker, "iou-wrk-", "wrk"), ...kill(main, poller, "iou-sqp-", "sqp") };
}
