import { receiveMessageOnPort } from "node:worker_threads";
import type { CurrentTask } from "../kernel/task-thread.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "../spec/sched.js";
import type { JobMessage } from "./io-work.js";
import type { IoWorkerArg } from "./io-worker.js";
import { runJob } from "./job-runner.js";

/**
 * What the thread of an io worker runs: jobs, until it is stopped with none left. Blocks. Linux:
 * io_wq_worker().
 */
export function ioWorker({ memory, port }: IoWorkerArg, current: CurrentTask): void {
  for (;;) {
    if (!current.mayRun()) current.hold();
    current.setState(TASK_INTERRUPTIBLE); // S1: before the look for a job
    const received = receiveMessageOnPort(port);
    if (received === undefined) {
      if (current.shouldStop()) break;
      if (!current.signalPending()) current.schedule();
      continue;
    }
    current.setState(TASK_RUNNING);
    const { job, hostFd } = received.message as JobMessage;
    port.postMessage(runJob({ job, hostFd, memory, current }));
  }
  current.setState(TASK_RUNNING);
  port.close();
}
