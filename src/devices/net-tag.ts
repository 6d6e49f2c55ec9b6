import { ETH_ALEN, ETH_P_8021Q } from "../spec/virtio-net.js";

/** Where a frame's tag stands, if it has one: behind two addresses. */
export const NET_TAG_AT = 2 * ETH_ALEN;

/** A u16 of a frame's headers, as networks have it. */
export const u16At = (bytes: Uint8Array, at: number) =>
  ((bytes[at] as number) << 8) | (bytes[at + 1] as number);

/** What happens to a frame's tag on its way. */
export interface NetTag {
  /** Bytes of it that are taken out. */
  cut: number;
  /** Bytes of one that is put in; of this VLAN. */
  added: number;
  vlan: number;
}

/** It stays as it is. */
export const SAME_TAG: NetTag = { cut: 0, added: 0, vlan: 0 };

/** Copies a frame's first `headBytes` bytes, its tag changed, to `at`; where they end. */
export function putHead(
  head: Uint8Array,
  headBytes: number,
  { cut, added, vlan }: NetTag,
  bytes: Uint8Array,
  at: number,
): number {
  let to = at;
  for (let i = 0; i < NET_TAG_AT; i++) bytes[to++] = head[i] as number;
  if (added > 0) {
    bytes[to++] = ETH_P_8021Q >>> 8;
    bytes[to++] = ETH_P_8021Q & 0xff;
    bytes[to++] = vlan >>> 8;
    bytes[to++] = vlan & 0xff;
  }
  for (let i = NET_TAG_AT + cut; i < headBytes; i++) bytes[to++] = head[i] as number;
  return to;
}
