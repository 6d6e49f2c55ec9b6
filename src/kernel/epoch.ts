import {
  CLONE_FS,
  CLONE_SIGHAND,
  CLONE_THREAD,
  CLONE_UNTRACED,
  CLONE_VM,
  PF_IO_WORKER,
  PF_USER_WORKER,
} from "../spec/sched.js";

/** How user workers are, where the three kernels that had them differ. */
export interface EpochRules {
  /** CLONE_ bits of a vhost worker: a child process of its owner, or a thread of it. */
  readonly vhostTaskFlags: number;
  /** Whether every signal to a vhost worker, SIGKILL too, is ignored. Linux: ignore_signals. */
  readonly ignoreSignals: boolean;
  /** The PF_ bit of the workers that block all signals but SIGKILL and SIGSTOP from birth. */
  readonly blocksSignals: number;
  /** Whether a vhost worker ends with its owner's process; else it works until it is stopped. */
  readonly endsWithGroup: boolean;
}

const CHILD = CLONE_FS | CLONE_UNTRACED | CLONE_VM;
const THREAD = CHILD | CLONE_THREAD | CLONE_SIGHAND;

const EPOCHS = {
  /** The merge, 6.4-rc1: a process of its own, deaf to signals. */
  "v6.4-merge": {
    vhostTaskFlags: CHILD,
    ignoreSignals: true,
    blocksSignals: PF_IO_WORKER,
    endsWithGroup: false,
  },
  /** The release: a thread of the owner, that does not die with it. */
  "v6.4": {
    vhostTaskFlags: THREAD,
    ignoreSignals: false,
    blocksSignals: PF_USER_WORKER,
    endsWithGroup: false,
  },
  /** Since 6.10: a thread of the owner that ends with it. */
  "v6.12": {
    vhostTaskFlags: THREAD,
    ignoreSignals: false,
    blocksSignals: PF_USER_WORKER,
    endsWithGroup: true,
  },
} as const satisfies Record<string, EpochRules>;

/** A kernel whose user workers this model has. */
export type Epoch = keyof typeof EPOCHS;

/** All of them, the oldest first. */
export const EPOCH_NAMES = Object.keys(EPOCHS) as Epoch[];

/** Their rules; `undefined`: no such epoch. */
export const epochRules = (epoch: string): EpochRules | undefined =>
  Object.hasOwn(EPOCHS, epoch) ? EPOCHS[epoch as Epoch] : undefined;
