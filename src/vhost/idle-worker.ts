import type { CurrentTask } from "../kernel/task-thread.js";
import { TASK_INTERRUPTIBLE } from "../spec/sched.js";

/** The function of a worker that has no rings: sleeps until it is told to stop. */
export function idleWorker(_: undefined, task: CurrentTask): void {
  for (;;) {
    if (!task.mayRun()) task.hold();
    task.setState(TASK_INTERRUPTIBLE); // first the state, then the test: see CurrentTask
    if (task.shouldStop()) return;
    task.schedule();
  }
}
