import type { Task } from "../../kernel/task.js";
import { VhostError } from "../../spec/errno.js";
import {
  VHOST_ACCESS_RW,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MSG_STRUCT,
  VHOST_IOTLB_UPDATE,
  VHOST_MSG_BYTES,
} from "../../spec/vhost-iotlb.js";
import { checkStruct } from "../user-access.js";
import { fileOf } from "./call.js";
import { VhostFile } from "./file.js";
import { decodeMsg, encodeMsg, type IotlbMsg } from "./iotlb-message.js";

/** A range of a device's addresses. */
export interface IotlbRange {
  readonly iova: bigint;
  /** Bytes. */
  readonly size: bigint;
}

/** A range, and where the program has it. */
export interface IotlbMapping extends IotlbRange {
  /** User address. */
  readonly uaddr: bigint;
  /** What the device may do there, VHOST_ACCESS_…; default: both. */
  readonly perm?: number;
}

function deviceOf(task: Task, fd: number): VhostFile {
  const file = fileOf(task, fd);
  if (file instanceof VhostFile) return file;
  throw new VhostError("EINVAL", `${fd} is no vhost device`, { fd });
}

/** The next question; `undefined`: none waits. EBADFD, as `VhostFile.read`. */
function nextMessage(file: VhostFile): IotlbMsg | undefined {
  const bytes = new Uint8Array(VHOST_MSG_BYTES);
  try {
    file.read(bytes, false);
  } catch (error) {
    if (error instanceof VhostError && error.code === "EAGAIN") return undefined;
    throw error;
  }
  return decodeMsg(bytes);
}

/**
 * What a device whose driver accepted VIRTIO_F_ACCESS_PLATFORM asks: where `iova` is, for `perm`.
 * Ends when the device is closed or reset, and rejects with the signal's reason. Questions come
 * while the device's workers work; what is taken is answered by `iotlbUpdate`, or its ring stands
 * still. EBADF, EINVAL: `fd` is no such device; EBADFD: it does not ask. Linux: read(2), poll(2).
 */
export async function* iotlbMessages(
  task: Task,
  fd: number,
  { signal }: { signal?: AbortSignal } = {},
): AsyncGenerator<IotlbMsg, void, void> {
  const file = deviceOf(task, fd);
  do {
    signal?.throwIfAborted();
    const message = nextMessage(file);
    if (message) yield message;
    else await readable(file, signal);
  } while (file.state.iotlb.table !== undefined);
}

/** Resolves when it is worth while to read again. */
function readable(file: VhostFile, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      giveUp();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const giveUp = file.onReadable(done);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/**
 * Tells a device where a range of its addresses is. Rings that have asked for a part of it, and
 * whose question was read, are looked at again by their workers. EBADF, EINVAL; EFAULT: the program
 * can't have it there, or the device has no addresses of its own. Linux: write(2) of
 * VHOST_IOTLB_UPDATE.
 */
export function iotlbUpdate(task: Task, fd: number, mapping: IotlbMapping): void {
  const { iova, size, uaddr, perm = VHOST_ACCESS_RW } = mapping;
  const msg = { iova, size, uaddr, perm, type: VHOST_IOTLB_UPDATE };
  checkStruct(VHOST_IOTLB_MSG_STRUCT, msg);
  deviceOf(task, fd).write(encodeMsg(msg, true));
}

/**
 * Tells a device to forget every translation that meets a range, as a whole: it asks again. That is
 * done when this returns; resolves when no ring uses them any more, each worker having ended the
 * turn that it was at: one that is stopped or frozen is waited for. Rejects as `iotlbUpdate`
 * throws. Linux: write(2) of VHOST_IOTLB_INVALIDATE.
 */
export async function iotlbInvalidate(
  task: Task,
  fd: number,
  { iova, size }: IotlbRange,
): Promise<void> {
  const msg = { iova, size, uaddr: 0n, perm: 0, type: VHOST_IOTLB_INVALIDATE };
  checkStruct(VHOST_IOTLB_MSG_STRUCT, msg);
  const file = deviceOf(task, fd);
  file.write(encodeMsg(msg, true));
  await file.state.workers.turnsOver();
}
