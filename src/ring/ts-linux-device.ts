// What the device's half of a split ring does under the policy "linux", where that differs; for the
// TypeScript twin. The contract is at `DeviceRing`.

import {
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_WALK_MAX,
  VRING_E_AVAIL_INDEX,
  VRING_E_HEAD,
  VRING_E_INDIRECT,
} from "../spec/ring-state.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
} from "../spec/virtio-ring.js";
import { TsLinuxChain } from "./ts-linux-chain.js";
import type { TsLog } from "./ts-log.js";
import { countError } from "./ts-words.js";

// Word indices in the state block: byte offsets over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const DRIVER = VQ_DRIVER >>> 2;
const DEVICE = VQ_DEVICE >>> 2;
const CHAIN_CAPACITY = VQ_CHAIN_CAPACITY >>> 2;
const IN_FLIGHT = VQ_IN_FLIGHT >>> 2;
const ERROR = VQ_ERROR >>> 2;
const NOTIFY_DISABLED = VQ_NOTIFY_DISABLED >>> 2;
const LAST_AVAIL = VQ_LAST_AVAIL >>> 2;
const AVAIL_SEEN = VQ_AVAIL_SEEN >>> 2;
const SIGNALLED = VQ_SIGNALLED >>> 2;
const SIGNALLED_VALID = VQ_SIGNALLED_VALID >>> 2;

/** What `TsSplitDevice` does otherwise with VQ_F_LINUX. Views and scratch only. Worker thread. */
export class TsLinuxDevice {
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly w: number;
  private readonly chain: TsLinuxChain;
  private readonly log: TsLog;

  /** As for `TsSplitDevice`, whose log it shares. */
  constructor(memory: WebAssembly.Memory, vq: number, log: TsLog) {
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
    this.chain = new TsLinuxChain(memory, vq);
    this.log = log;
  }

  /** See `DeviceRing.getDescs`. Linux: vhost_get_vq_desc(), once for each chain. */
  getDescs(max: number): number {
    const { u32, w, chain } = this;
    const limit = Math.min(max, u32[w + CHAIN_CAPACITY]);
    let good = 0;
    let iov = 0;
    let read = 0;
    while (good < limit && read < VQ_WALK_MAX && this.hasMore(good)) {
      const head = this.head();
      const code = head < u32[w + NUM] ? chain.follow(head, iov) : VRING_E_HEAD;
      if (code !== 0) {
        if (good > 0) break; // a call of its own finds it, and counts it once
        this.fail(code);
        if (code !== VRING_E_HEAD && chain.isTable) countError(u32, w, VRING_E_INDIRECT);
        break;
      }
      chain.record(good++, head);
      iov = chain.iovEnd;
      read += chain.read;
      u32[w + LAST_AVAIL] = (u32[w + LAST_AVAIL] + 1) & 0xffff;
      u32[w + IN_FLIGHT]++;
      u32[w + ERROR] = 0;
    }
    return good > 0 || u32[w + ERROR] === 0 ? good : -u32[w + ERROR];
  }

  /**
   * After `DeviceRing.publish` moved used.idx from `before` to `after`. Linux: the end of
   * vhost_add_used_n().
   */
  published(before: number, after: number): void {
    const { u32, w } = this;
    const distance = (after - u32[w + SIGNALLED]) & 0xffff;
    if (distance >= ((after - before) & 0xffff)) return;
    // More went by than a u16 counts: what was last decided is no measure any more.
    u32[w + SIGNALLED_VALID] = 0;
    u32[w + SIGNALLED] = before;
  }

  /** See `DeviceRing.enableKick`. Linux: vhost_enable_notify(). */
  enableKick(): boolean {
    const { u16, u32, w } = this;
    if (u32[w + NOTIFY_DISABLED] === 0) return false;
    u32[w + NOTIFY_DISABLED] = 0;
    const used = u32[w + DEVICE];
    // Barrier E2: ask, then look. Pairs with E2 in TsSplitDriver.kickNeeded.
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) !== 0) {
      const availEvent = used + VIRTQ_RING_ELEMENTS + u32[w + NUM] * VIRTQ_USED_ELEM_BYTES;
      Atomics.store(u16, availEvent >>> 1, u32[w + AVAIL_SEEN]);
      this.log.availEvent();
    } else {
      Atomics.store(u16, (used + VIRTQ_RING_FLAGS) >>> 1, 0);
      this.log.deviceAreaHead();
    }
    return this.takeIndex() > 0;
  }

  /** Whether an entry is there to pop. `good`: chains of the burst so far. */
  private hasMore(good: number): boolean {
    const { u32, w } = this;
    if (u32[w + AVAIL_SEEN] !== u32[w + LAST_AVAIL]) return true;
    if (good > 0) {
      // Look, and leave alone what the next call must find for itself.
      const idx = this.loadAvailIdx();
      if (this.isTooFar(idx)) return false;
      u32[w + AVAIL_SEEN] = idx;
      return idx !== u32[w + LAST_AVAIL];
    }
    const pending = this.takeIndex();
    if (pending === 0) u32[w + ERROR] = 0;
    return pending > 0;
  }

  /** Believes avail.idx, then tests it. @returns entries pending, or -1: the test failed. */
  private takeIndex(): number {
    const { u32, w } = this;
    const idx = this.loadAvailIdx();
    u32[w + AVAIL_SEEN] = idx;
    if (!this.isTooFar(idx)) return (idx - u32[w + LAST_AVAIL]) & 0xffff;
    this.fail(VRING_E_AVAIL_INDEX);
    return -1;
  }

  private isTooFar(idx: number): boolean {
    return ((idx - this.u32[this.w + LAST_AVAIL]) & 0xffff) > this.u32[this.w + NUM];
  }

  /** Acquire A1: heads are read after it. Pairs with A1 in TsSplitDriver.publish. */
  private loadAvailIdx(): number {
    return Atomics.load(this.u16, (this.u32[this.w + DRIVER] + VIRTQ_RING_IDX) >>> 1);
  }

  /** The head in the entry at VQ_LAST_AVAIL, unchecked. */
  private head(): number {
    const { u16, u32, w } = this;
    const slot = u32[w + LAST_AVAIL] % u32[w + NUM];
    return u16[(u32[w + DRIVER] + VIRTQ_RING_ELEMENTS + slot * VIRTQ_AVAIL_ELEM_BYTES) >>> 1];
  }

  /** An entry fails: it stays, and is counted at each try. */
  private fail(code: number): void {
    this.u32[this.w + ERROR] = code;
    countError(this.u32, this.w, code);
  }
}
