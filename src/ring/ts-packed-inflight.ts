// The lists in flight of a packed ring, in the area that the front-end shares, for the TypeScript
// twin. The contract is in `recording-ring.ts`. What is in the area is written and never read.

import {
  INFLIGHT_DESC_INFLIGHT,
  INFLIGHT_PACKED_DESC_ADDR,
  INFLIGHT_PACKED_DESC_BYTES,
  INFLIGHT_PACKED_DESC_FLAGS,
  INFLIGHT_PACKED_DESC_ID,
  INFLIGHT_PACKED_DESC_LAST,
  INFLIGHT_PACKED_DESC_LEN,
  INFLIGHT_PACKED_DESC_NEXT,
  INFLIGHT_PACKED_DESC_NUM,
  INFLIGHT_PACKED_DESCS,
  INFLIGHT_PACKED_FREE_HEAD,
  INFLIGHT_PACKED_OLD_FREE_HEAD,
  INFLIGHT_PACKED_OLD_USED_IDX,
  INFLIGHT_PACKED_OLD_USED_WRAP,
  INFLIGHT_PACKED_USED_IDX,
  INFLIGHT_PACKED_USED_WRAP,
} from "../spec/inflight.js";
import {
  INFLIGHT_ENTRY_BYTES,
  INFLIGHT_ENTRY_COUNT,
  INFLIGHT_ENTRY_LAST,
  INFLIGHT_ENTRY_NEXT,
  INFLIGHT_ENTRY_OLDER,
  VQ_INFLIGHT_HEAD,
  VQ_INFLIGHT_OLD,
  VQ_INFLIGHT_TABLE,
  VQ_NUM,
} from "../spec/ring-state.js";
import { PVIRTQ_DESC_ID, VIRTQ_DESC_LEN } from "../spec/virtio-ring.js";
import { TsRecord } from "./ts-inflight.js";
import type { TsList } from "./ts-list.js";
import { indexOf, moved } from "./ts-position.js";

// Word indices in the state block: byte offsets over four.
const NUM = VQ_NUM >>> 2;
const TABLE = VQ_INFLIGHT_TABLE >>> 2;
const HEAD = VQ_INFLIGHT_HEAD >>> 2;
const OLD = VQ_INFLIGHT_OLD >>> 2;

// The u16 of an entry of our table: byte offsets over two.
const NEXT = INFLIGHT_ENTRY_NEXT >>> 1;
const LAST = INFLIGHT_ENTRY_LAST >>> 1;
const OLDER = INFLIGHT_ENTRY_OLDER >>> 1;
const COUNT = INFLIGHT_ENTRY_COUNT >>> 1;

/** The record of a packed ring. vhost-user, section "Inflight I/O tracking". */
export class TsPackedInflight extends TsRecord {
  /** The list just followed, which begins at `position`, is popped: it takes the first entries. */
  record(position: number, list: TsList): void {
    const { u16, u32, w } = this;
    const first = u32[w + HEAD];
    const desc = this.desc(first);
    this.store16(desc + INFLIGHT_PACKED_DESC_NUM, 0);
    this.count(desc);
    this.store8(desc + INFLIGHT_DESC_INFLIGHT, 1);
    const last = this.copy(position, list, first);
    const entry = this.entry(first);
    u16[entry + LAST] = last;
    u16[entry + COUNT] = list.count;
    this.store16(desc + INFLIGHT_PACKED_DESC_LAST, last);
    this.store16(desc + INFLIGHT_PACKED_DESC_NUM, list.count);
    const word = this.word(list.id);
    u16[entry + OLDER] = u16[word];
    u16[word] = first + 1;
    const free = u16[this.entry(last) + NEXT];
    u32[w + HEAD] = u32[w + OLD] = free;
    this.store16(this.area(INFLIGHT_PACKED_FREE_HEAD), free);
    this.store16(this.area(INFLIGHT_PACKED_OLD_FREE_HEAD), free);
  }

  /**
   * The list in flight that was popped last with this id is staged: its entries come first among
   * the free ones. False, with nothing changed: there is none, or it has not so many descriptors.
   */
  use(id: number, count: number): boolean {
    const { u16, u32, w } = this;
    const word = this.word(id);
    const first = u16[word] - 1;
    if (first < 0) return false;
    const entry = this.entry(first);
    if (u16[entry + COUNT] !== count) return false;
    const last = u16[entry + LAST];
    const before = u32[w + HEAD];
    u16[this.entry(last) + NEXT] = before;
    this.store16(this.desc(last) + INFLIGHT_PACKED_DESC_NEXT, before);
    u32[w + HEAD] = first;
    this.store16(this.area(INFLIGHT_PACKED_FREE_HEAD), first);
    u16[word] = u16[entry + OLDER];
    return true;
  }

  /** What is staged is about to be published, up to `position`. */
  publishing(position: number): void {
    this.store16(this.area(INFLIGHT_PACKED_USED_IDX), indexOf(position));
    this.store8(this.area(INFLIGHT_PACKED_USED_WRAP), position >>> 15);
  }

  /** It is: what was staged is no longer in flight. */
  published(position: number): void {
    const { u16, u32, w } = this;
    const old = u32[w + OLD];
    let first = u32[w + HEAD];
    u32[w + OLD] = first;
    for (let left = u32[w + NUM]; left > 0 && first !== old; left--) {
      this.store8(this.desc(first) + INFLIGHT_DESC_INFLIGHT, 0);
      first = u16[this.entry(u16[this.entry(first) + LAST]) + NEXT];
    }
    this.store16(this.area(INFLIGHT_PACKED_OLD_FREE_HEAD), u32[w + OLD]);
    this.store16(this.area(INFLIGHT_PACKED_OLD_USED_IDX), indexOf(position));
    this.store8(this.area(INFLIGHT_PACKED_OLD_USED_WRAP), position >>> 15);
  }

  /** Copies a list's descriptors to the entries from `first` on. @returns the last of them. */
  private copy(position: number, list: TsList, first: number): number {
    const { u16, u32, w } = this;
    for (let entry = first, left = list.count; ; left--) {
      const flags = list.flagsAt(position);
      const from = list.descAt(position);
      const to = this.desc(entry);
      u32[(to + INFLIGHT_PACKED_DESC_ADDR) >>> 2] = u32[from >>> 2];
      u32[(to + INFLIGHT_PACKED_DESC_ADDR + 4) >>> 2] = u32[(from >>> 2) + 1];
      u32[(to + INFLIGHT_PACKED_DESC_LEN) >>> 2] = u32[(from + VIRTQ_DESC_LEN) >>> 2];
      this.store16(to + INFLIGHT_PACKED_DESC_FLAGS, flags);
      this.store16(to + INFLIGHT_PACKED_DESC_ID, u16[(from + PVIRTQ_DESC_ID) >>> 1]);
      if (left === 1) return entry;
      entry = u16[this.entry(entry) + NEXT];
      position = moved(position, 1, u32[w + NUM]);
    }
  }

  /** Index, in u16, of an entry of our table. */
  private entry(index: number): number {
    return (this.u32[this.w + TABLE] + index * INFLIGHT_ENTRY_BYTES) >>> 1;
  }

  /** Index, in u16, of an id's word of our table. */
  private word(id: number): number {
    return this.entry(this.u32[this.w + NUM]) + id;
  }

  /** Linear address of an entry of the area. */
  private desc(index: number): number {
    return this.area(INFLIGHT_PACKED_DESCS + index * INFLIGHT_PACKED_DESC_BYTES);
  }
}
