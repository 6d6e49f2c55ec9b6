import { Kernel } from "../kernel/kernel.js";
import { mustLive, Task } from "../kernel/task.js";
import { VhostError } from "../spec/errno.js";

/** A kernel, or what has one: the package's `Kernel`, say. */
export type KernelOwner = Kernel | { readonly model: Kernel };
/** A task, or what has one: the package's `Process`, say. */
export type TaskOwner = Task | { readonly task: Task };

/** The task that is meant. EINVAL: none is. */
export function taskOf(given: TaskOwner): Task {
  const task = given instanceof Task ? given : given?.task;
  if (task instanceof Task) return task;
  throw new VhostError("EINVAL", "a Process, or its task, is wanted: kernel.spawn() makes one", {
    given,
  });
}

/**
 * The kernel and the task that are meant. EINVAL: none is, or the task is another kernel's; ESRCH:
 * it has exited.
 */
export function ownerOf(given: KernelOwner, owner: TaskOwner): { kernel: Kernel; task: Task } {
  const kernel = given instanceof Kernel ? given : given?.model;
  if (!(kernel instanceof Kernel)) {
    throw new VhostError("EINVAL", "a Kernel is wanted first, then a Process of it", { given });
  }
  const task = taskOf(owner);
  mustLive(task);
  if (kernel.task(task.pid) === task) return { kernel, task };
  throw new VhostError("EINVAL", "the process is another kernel's", { pid: task.pid });
}
