/**
 * Whether moving an index from `old` to `new_` passed the event index the other side asked for.
 * All u16 in u32. virtio 1.3, 2.7.7.1 and 2.7.10.1. Linux: vring_need_event().
 */
export function needEvent(event: u32, new_: u32, old: u32): bool {
  return ((new_ - event - 1) & 0xffff) < ((new_ - old) & 0xffff);
}
