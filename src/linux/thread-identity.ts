import { readFileSync } from "node:fs";
import { arch } from "node:os";
import { VhostError } from "../spec/errno.js";
import { check, libc } from "./libc.js";

const PR_SET_NAME = 15;
// setgroups is called by number: the C library's own changes every thread.
const SYS_SETGROUPS = arch() === "x64" ? 116 : 159;
const NOBODY_ID = 0xffffffff;
/** struct __user_cap_header_struct for 64-bit sets: the version, and 0 for this thread. */
const CAP_HEADER = Uint32Array.of(0x20080522, 0);
/** Two struct __user_cap_data_struct of effective, permitted and inheritable. */
const NO_CAPS = new Uint32Array(6);
/** CAP_SETGID is 6, CAP_SETUID is 7. */
const NEEDED_CAPS = 0b1100_0000n;

/** Names the calling thread, as `ps -L` and top show it; 15 bytes count. Linux: prctl(2). */
export function nameThread(comm: string): void {
  libc().prctl(PR_SET_NAME, comm);
}

/** In whose name files are opened. */
export interface FsIdentity {
  uid: number;
  gid: number;
  groups: readonly number[];
}

/** Throws EPERM when the calling thread may not open files as somebody else. */
export function checkFsIdentity(): void {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(
    readFileSync("/proc/thread-self/status", "utf8"),
  );
  const caps = BigInt(`0x${effective?.[1] ?? 0}`);
  if ((caps & NEEDED_CAPS) === NEEDED_CAPS) return;
  throw new VhostError("EPERM", "to open files as their owner needs root (CAP_SETUID, CAP_SETGID)");
}

/**
 * From now on the calling thread opens files as somebody else: with that user, group and groups,
 * and for others than root with no capability, for good. Other threads stay as they are;
 * asynchronous calls of `node:fs` run on those. Throws EPERM when the program may not do that: it
 * needs CAP_SETUID and CAP_SETGID. Linux: setfsuid(2), setfsgid(2), setgroups(2), capset(2) of one
 * thread.
 */
export function takeFsIdentity({ uid, gid, groups }: FsIdentity): void {
  const list = Uint32Array.from(groups);
  check(libc().syscall(SYS_SETGROUPS, list.length, list), "files can't be opened as their owner");
  libc().setfsgid(gid);
  libc().setfsuid(uid);
  // Neither says whether it worked: asked for what can't be, they tell what is.
  const now = [libc().setfsuid(NOBODY_ID), libc().setfsgid(NOBODY_ID)];
  if (now[0] !== uid || now[1] !== gid) {
    const facts = { uid, gid };
    throw new VhostError("EPERM", "files can't be opened as their owner: needs root", facts);
  }
  // Some count beside permissions: CAP_SYS_RESOURCE has no quota and takes a disk's last blocks.
  if (uid !== 0) check(libc().capset(CAP_HEADER, NO_CAPS), "a worker's rights can't be given up");
}
