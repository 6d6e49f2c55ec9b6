import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_USED_BYTES,
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_KICKED,
  VQ_LAST_USED,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VRING_E_CHAIN,
  VRING_E_USED_ID,
  VRING_E_USED_INDEX,
} from "../spec/ring-state.js";
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../spec/virtio-ring.js";
import type { DriverRing } from "./ring.js";
import { TsDescs } from "./ts-descs.js";
import { countError, needEvent, refuse } from "./ts-words.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const DRIVER = VQ_DRIVER >>> 2;
const DEVICE = VQ_DEVICE >>> 2;
const CHAINS = VQ_CHAINS >>> 2;
const CHAIN_CAPACITY = VQ_CHAIN_CAPACITY >>> 2;
const IN_FLIGHT = VQ_IN_FLIGHT >>> 2;
const ERROR = VQ_ERROR >>> 2;
const NOTIFY_DISABLED = VQ_NOTIFY_DISABLED >>> 2;
const AVAIL_NEXT = VQ_AVAIL_NEXT >>> 2;
const AVAIL_PUBLISHED = VQ_AVAIL_PUBLISHED >>> 2;
const KICKED = VQ_KICKED >>> 2;
const LAST_USED = VQ_LAST_USED >>> 2;
const CHAIN_WORDS = CHAIN_BYTES >>> 2;
const HEAD = CHAIN_HEAD >>> 2;
const USED_BYTES = CHAIN_USED_BYTES >>> 2;

/**
 * The driver's half of a split virtqueue in TypeScript, the twin that the WebAssembly one is held
 * against. It holds views only: all state is in the state block. The driver's thread; never throws,
 * never waits. virtio 1.3, 2.7 Split Virtqueues. Linux: drivers/virtio/virtio_ring.c.
 */
export class TsSplitDriver implements DriverRing {
  readonly vq: number;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly w: number;
  private readonly descs: TsDescs;

  /**
   * Over `memory`, shared or not, which does not grow while the ring exists; `vq` is the address of
   * a driver's state block that the host has filled in. No side effect: `reset` begins the ring.
   */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.vq = vq;
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
    this.descs = new TsDescs(memory, vq);
  }

  /**
   * See `DriverRing.reset`. virtio 1.3, 2.7 Split Virtqueues. Linux: vring_virtqueue_init_split().
   */
  reset(): void {
    const { u16, u32, w } = this;
    this.descs.reset();
    u32[w + IN_FLIGHT] = u32[w + ERROR] = u32[w + NOTIFY_DISABLED] = 0;
    u32[w + AVAIL_NEXT] = u32[w + AVAIL_PUBLISHED] = u32[w + KICKED] = u32[w + LAST_USED] = 0;
    for (const ring of [u32[w + DRIVER] >>> 1, u32[w + DEVICE] >>> 1]) {
      Atomics.store(u16, ring + (VIRTQ_RING_FLAGS >>> 1), 0);
      Atomics.store(u16, ring + (VIRTQ_RING_IDX >>> 1), 0);
    }
    Atomics.store(u16, this.usedEvent(), 0);
    Atomics.store(u16, this.availEvent(), 0);
  }

  /**
   * See `DriverRing.addBufs`. virtio 1.3, 2.7.13 Supplying Buffers to The Device. Linux:
   * virtqueue_add_sgs().
   */
  addBufs(count: number): number {
    const { u16, u32, w, descs } = this;
    const mask = u32[w + NUM] - 1;
    const ring = (u32[w + DRIVER] + VIRTQ_RING_ELEMENTS) >>> 1;
    const limit = Math.min(count, u32[w + CHAIN_CAPACITY]);
    let record = u32[w + CHAINS] >>> 2;
    let next = u32[w + AVAIL_NEXT];
    let added = 0;
    for (; added < limit; added++, record += CHAIN_WORDS) {
      const pieces = descs.check(record);
      if (pieces < 0) {
        const answer = countError(u32, w, VRING_E_CHAIN);
        if (added === 0) return answer;
        break;
      }
      const head = descs.add(record, pieces);
      if (head < 0) break;
      u32[record + HEAD] = head;
      u16[ring + (next & mask)] = head;
      next = (next + 1) & 0xffff; // wraps at 65536, not at the queue size: masked where it is used
    }
    u32[w + AVAIL_NEXT] = next;
    u32[w + IN_FLIGHT] += added;
    return added;
  }

  /** See `DriverRing.publish`. virtio 1.3, 2.7.13.3 Updating idx. Linux: virtqueue_add_split(). */
  publish(): void {
    const { u16, u32, w } = this;
    const next = u32[w + AVAIL_NEXT];
    if (next === u32[w + AVAIL_PUBLISHED]) return;
    // Publish A1: descriptors and heads must be visible first. Pairs with A1 in
    // TsSplitDevice.loadAvailIdx.
    Atomics.store(u16, (u32[w + DRIVER] + VIRTQ_RING_IDX) >>> 1, next);
    u32[w + AVAIL_PUBLISHED] = next;
  }

  /**
   * See `DriverRing.kickNeeded`. virtio 1.3, 2.7.10 Available Buffer Notification Suppression.
   * Linux: virtqueue_kick_prepare().
   */
  kickNeeded(): boolean {
    const { u16, u32, w } = this;
    const old = u32[w + KICKED];
    const published = u32[w + AVAIL_PUBLISHED];
    if (old === published) return false;
    u32[w + KICKED] = published;
    // Barrier E2: after the store of avail.idx. Pairs with E2 in TsSplitDevice.enableKick.
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) !== 0) {
      return needEvent(Atomics.load(u16, this.availEvent()), published, old);
    }
    const flags = Atomics.load(u16, (u32[w + DEVICE] + VIRTQ_RING_FLAGS) >>> 1);
    return (flags & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  /**
   * See `DriverRing.getBufs`. virtio 1.3, 2.7.14 Receiving Used Buffers From The Device. Linux:
   * virtqueue_get_buf().
   */
  getBufs(max: number): number {
    const { u32, w } = this;
    const first = u32[w + LAST_USED];
    const pending = (this.loadUsedIdx() - first) & 0xffff;
    if (pending > u32[w + IN_FLIGHT]) return refuse(u32, w, VRING_E_USED_INDEX);
    const limit = Math.min(max, pending, u32[w + CHAIN_CAPACITY]);
    let record = u32[w + CHAINS] >>> 2;
    let got = 0;
    for (; got < limit; got++, record += CHAIN_WORDS) {
      if (!this.take((first + got) & 0xffff, pending - got, record)) break;
    }
    u32[w + LAST_USED] = (first + got) & 0xffff;
    u32[w + IN_FLIGHT] -= got;
    if (got < limit) {
      const answer = refuse(u32, w, VRING_E_USED_ID);
      return got > 0 ? got : answer;
    }
    if (got > 0 || pending === 0) u32[w + ERROR] = 0;
    return got;
  }

  /**
   * See `DriverRing.enableCall`. virtio 1.3, 2.7.7 Used Buffer Notification Suppression. Linux:
   * virtqueue_enable_cb().
   */
  enableCall(): boolean {
    const { u16, u32, w } = this;
    const lastUsed = u32[w + LAST_USED];
    // Barrier E1: ask, then look. Pairs with E1 in TsSplitDevice.callNeeded.
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) !== 0) Atomics.store(u16, this.usedEvent(), lastUsed);
    else Atomics.store(u16, (u32[w + DRIVER] + VIRTQ_RING_FLAGS) >>> 1, 0);
    u32[w + NOTIFY_DISABLED] = 0;
    return this.loadUsedIdx() !== lastUsed;
  }

  /**
   * See `DriverRing.disableCall`. virtio 1.3, 2.7.7 Used Buffer Notification Suppression. Linux:
   * virtqueue_disable_cb().
   */
  disableCall(): void {
    const { u16, u32, w } = this;
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) === 0) {
      Atomics.store(u16, (u32[w + DRIVER] + VIRTQ_RING_FLAGS) >>> 1, VIRTQ_AVAIL_F_NO_INTERRUPT);
    }
    u32[w + NOTIFY_DISABLED] = 1;
  }

  /** Acquire U1: used elements are read after it. Pairs with U1 in TsSplitDevice.publish. */
  private loadUsedIdx(): number {
    return Atomics.load(this.u16, (this.u32[this.w + DEVICE] + VIRTQ_RING_IDX) >>> 1);
  }

  /** Index in `u16` of used_event, behind the available ring. */
  private usedEvent(): number {
    const { u32, w } = this;
    return ((u32[w + DRIVER] + VIRTQ_RING_ELEMENTS) >>> 1) + u32[w + NUM];
  }

  /** Index in `u16` of avail_event, behind the used ring. */
  private availEvent(): number {
    const { u32, w } = this;
    const elements = u32[w + NUM] * VIRTQ_USED_ELEM_BYTES;
    return (u32[w + DEVICE] + VIRTQ_RING_ELEMENTS + elements) >>> 1;
  }

  /**
   * Takes one chain into the record at word `record`: of a batch, or by the used entry, after which
   * there are others, `pending` together; false when its id is refused.
   */
  private take(entry: number, pending: number, record: number): boolean {
    const { u32, w, descs } = this;
    if (!descs.hasBatch()) {
      const slot = entry & (u32[w + NUM] - 1);
      const element = (u32[w + DEVICE] + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES) >>> 2;
      const head = u32[element];
      const length = u32[element + (VIRTQ_USED_ELEM_LEN >>> 2)];
      if (!descs.isInFlight(head)) return false;
      if ((u32[w + FLAGS] & VQ_F_IN_ORDER) === 0) {
        u32[record + HEAD] = head;
        u32[record + USED_BYTES] = descs.cut(head, length);
        descs.free(head);
        return true;
      }
      const count = descs.batchTo(head, pending);
      if (count === 0) return false;
      descs.beginBatch(count, descs.cut(head, length));
    }
    descs.takeOldest(record);
    return true;
  }
}
