import { VhostError } from "../spec/errno.js";
import type { SignalStruct, Task } from "./task.js";

/** A pid namespace below the machine's own. Linux: pid_namespace. */
interface PidNs {
  readonly parent: number;
  /** The process that is its pid 1; `null`: it has ended, and the namespace with it. */
  reaper: SignalStruct | null;
}

/**
 * The pid namespaces that have had a process, by number; the machine's own, 0, is not among them.
 * This model numbers all tasks in the machine's namespace.
 */
export class PidNamespaces {
  readonly #below = new Map<number, PidNs>();

  /** ENOMEM: its pid 1 has ended, so nobody can be born there. Linux: alloc_pid(). */
  checkOpen(ns: number): void {
    if (this.#below.get(ns)?.reaper !== null) return;
    throw new VhostError("ENOMEM", "the pid namespace has lost its init", { pidNs: ns });
  }

  /**
   * `task`, made by `current`, is in its namespace: as its pid 1 when it is the first. Linux:
   * is_child_reaper() in copy_process().
   */
  enter(current: Task, { pidNs, signal }: Task): void {
    if (pidNs === current.pidNs || this.#below.has(pidNs)) return;
    this.#below.set(pidNs, { parent: current.pidNs, reaper: signal });
  }

  /** The process that inherits a namespace's orphans; `undefined`: the machine's init does. */
  reaper(ns: number): SignalStruct | undefined {
    return this.#below.get(ns)?.reaper ?? undefined;
  }

  /** Nobody is born any more in a namespace that has lost its pid 1. */
  close(ns: number): void {
    const closed = this.#below.get(ns);
    if (closed) closed.reaper = null;
  }

  /** Whether namespace `ns` is `outer`, or lies below it. */
  isWithin(ns: number, outer: number): boolean {
    for (let at: number | undefined = ns; at !== undefined; at = this.#below.get(at)?.parent) {
      if (at === outer) return true;
    }
    return false;
  }
}
