import type { QueueLeft, RingStart, WorkerControl } from "./control.js";

/**
 * Has a ring's worker leave it, which answers what it holds of it; then calls `then`, while no
 * worker is at the ring, and has the ring go on where it is, as `then` says: in the same worker or
 * in `to`; `undefined`: it does not go on. Rejects when the worker is dead, `then` having been
 * called without what was left, and as `startQueue`. Linux: vhost_vq_attach_worker(), and what
 * takes a vhost_virtqueue's mutex.
 */
export async function passQueue(
  from: WorkerControl,
  index: number,
  then: (left: QueueLeft | undefined) => RingStart | undefined,
  to: () => WorkerControl = () => from,
): Promise<void> {
  let left: QueueLeft | undefined;
  let start: RingStart | undefined;
  try {
    left = await from.takeQueue(index);
  } finally {
    start = then(left);
  }
  const { awaitsKick } = left;
  if (start) await to().startQueue({ ...start, awaitsKick, goesOn: !awaitsKick });
}
