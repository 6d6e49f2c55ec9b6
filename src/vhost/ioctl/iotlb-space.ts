import { VRING_E_ADDRESS, VRING_E_IOV } from "../../spec/ring-state.js";
import type { UserMemory } from "../user-access.js";
import type { IotlbView } from "./iotlb.js";

/** A run of the program's memory. */
export interface Piece {
  /** User address, which may be anything. */
  readonly uaddr: bigint;
  readonly bytes: number;
  /** What may be done there: VHOST_ACCESS_… bits. */
  readonly perm: number;
}

/** Why a walk ends early: somebody is to be asked where `miss` is, or it is an error. */
export type Stop =
  | { readonly miss: bigint; readonly perm: number }
  | { readonly miss?: undefined; readonly code: number; readonly isInTable?: boolean };

const U64 = (value: bigint) => BigInt.asUintN(64, value);

/**
 * The memory that a device's own addresses are translated to, by the table of the moment. Reads are
 * copies. Any thread.
 */
export class IotlbSpace {
  readonly table: IotlbView;
  readonly user: UserMemory;
  readonly #bytes: Uint8Array<ArrayBufferLike>;

  constructor(memory: WebAssembly.Memory, user: UserMemory, table: IotlbView) {
    this.table = table;
    this.user = user;
    this.#bytes = new Uint8Array(memory.buffer);
  }

  /**
   * Adds to `pieces`, `max` at most in all, where `bytes` bytes from `iova` on are; none for 0
   * bytes. A range that is known for less than `perm` is an error, one that is not known at all is
   * asked for. Linux: translate_desc().
   */
  translate(
    iova: bigint,
    bytes: number,
    perm: number,
    pieces: Piece[],
    max: number,
  ): Stop | undefined {
    const last = U64(iova + BigInt(bytes) - 1n); // before `iova` where that wraps: see `first`
    let at = iova;
    for (let left = bytes; left > 0; ) {
      if (pieces.length >= max) return { code: VRING_E_IOV };
      const map = this.table.first(at, last);
      if (map === undefined || map.start > at) return { miss: at, perm };
      if ((map.perm & perm) === 0) return { code: VRING_E_ADDRESS };
      const room = map.last - at + 1n;
      const take = room < left ? Number(room) : left;
      pieces.push({ uaddr: map.uaddr + (at - map.start), bytes: take, perm: map.perm });
      left -= take;
      at = U64(at + room);
    }
    return undefined;
  }

  /** Copies what is there, from `offset` of the run on. False: a part is not mapped. */
  read(pieces: readonly Piece[], offset: number, into: Uint8Array): boolean {
    return this.#each(pieces, offset, into.length, (at, done, bytes) => {
      into.set(this.#bytes.subarray(at, at + bytes), done);
    });
  }

  /** Calls `use(linear address, bytes before, bytes)` for each part of what is asked for. */
  #each(
    pieces: readonly Piece[],
    offset: number,
    bytes: number,
    use: (at: number, done: number, bytes: number) => void,
  ): boolean {
    let skip = offset;
    let done = 0;
    for (const piece of pieces) {
      if (done === bytes) break;
      if (skip >= piece.bytes) {
        skip -= piece.bytes;
        continue;
      }
      const take = Math.min(piece.bytes - skip, bytes - done);
      const at = piece.uaddr + BigInt(skip);
      if (!this.user.isMapped(at, BigInt(take))) return false;
      use(Number(at), done, take);
      done += take;
      skip = 0;
    }
    return done === bytes;
  }
}
