// Steps that many scenarios begin or end with: a vsock device whose owner is a process of its own,
// while another one holds the descriptor too.

import { attempt, type Proc, type Scene, type Seen } from "./machine/index.js";
import type { Ring } from "./machine/ring.js";

/** A device that `holder` has opened, and its child `owner` owns and runs. */
export interface OwnedVsock {
  readonly owner: Proc;
  readonly holder: Proc;
  /** Of both, one number. */
  readonly fd: number;
  readonly tx: Ring;
  /** Tid of the worker. */
  readonly worker: number;
}

/** Guest CID of the device. */
const CID = 42;

/** Forks an owner from `main`; `before` is what it does before it owns the device. */
export function ownedVsock({ main }: Scene, before: (owner: Proc) => void = () => {}): OwnedVsock {
  const fd = main.open("/dev/vhost-vsock");
  const rings = main.mapVsockRings();
  const owner = main.fork();
  before(owner);
  owner.ioctl(fd, "VHOST_SET_OWNER");
  owner.startVsock(fd, CID, rings);
  const worker = owner.tasks().find((tid) => owner.stat(tid).comm === `vhost-${owner.tid}`) ?? 0;
  return { owner, holder: main, fd, tx: rings.tx, worker };
}

/** One packet from the owner; how many were used then. */
export function sendOne({ owner, tx }: OwnedVsock): number {
  owner.sendPackets(tx);
  return tx.usedIdx;
}

/** Ends the owner; how its parent saw it end. */
export function killAndWait({ owner, holder }: OwnedVsock): string {
  holder.kill(owner.pid, "SIGKILL");
  return holder.wait(owner.pid);
}

/** What another holder can do with the device of a dead owner. */
export function useAfterDeath({ holder, fd, tx }: OwnedVsock): Seen {
  tx.call.read();
  holder.sendPackets(tx);
  const seen: Seen = {
    used_idx_after_kick: tx.usedIdx,
    call_signals: tx.call.read(),
    err_signals: tx.err.read(),
    set_vring_num: holder.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    set_owner: holder.ioctl(fd, "VHOST_SET_OWNER"),
    set_running_0: holder.ioctl(fd, "VHOST_VSOCK_SET_RUNNING", 0),
    close_fast: holder.close(fd) === "OK",
  };
  const fresh = holder.open("/dev/vhost-vsock");
  seen.fresh_open_set_owner = holder.ioctl(fresh, "VHOST_SET_OWNER");
  seen.fresh_open_same_cid = holder.ioctl(fresh, "VHOST_VSOCK_SET_GUEST_CID", CID);
  return seen;
}

/** Whether no task has that tid any more. */
export const isGone = ({ holder }: OwnedVsock, tid: number): boolean =>
  attempt(() => holder.stat(tid)) === "ENOENT";
