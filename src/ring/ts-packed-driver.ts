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
  VQ_STAGED_FLAGS,
  VRING_E_CHAIN,
  VRING_E_USED_ID,
} from "../spec/ring-state.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  RING_EVENT_FLAGS_MASK,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../spec/virtio-ring.js";
import type { PackedDriverRing } from "./packed-ring.js";
import { TsPackedDescs } from "./ts-packed-descs.js";
import { distance, isUsed, moved, POSITION_FIRST, passed } from "./ts-position.js";
import { countError, refuse } from "./ts-words.js";

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
const STAGED_FLAGS = VQ_STAGED_FLAGS >>> 2;
const CHAIN_WORDS = CHAIN_BYTES >>> 2;
const HEAD = CHAIN_HEAD >>> 2;
const USED_BYTES = CHAIN_USED_BYTES >>> 2;

const U16_MAX = 0xffff;

/** What became of the attempt to take a chain. */
const TAKEN = 1;
const NOTHING = 0;
const REFUSED = -1;

/**
 * The driver's half of a packed virtqueue in TypeScript, the twin that the WebAssembly one is held
 * against. It holds views only: all state is in the state block. The driver's thread; never throws,
 * never waits. virtio 1.3, 2.8 Packed Virtqueues. Linux: drivers/virtio/virtio_ring.c.
 */
export class TsPackedDriver implements PackedDriverRing {
  readonly vq: number;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly w: number;
  private readonly descs: TsPackedDescs;

  /**
   * Over `memory`, shared or not, which does not grow while the ring exists; `vq` is the address of
   * a driver's state block that the host has filled in. No side effect: `reset` begins the ring.
   */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.vq = vq;
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
    this.descs = new TsPackedDescs(memory, vq);
  }

  /**
   * See `PackedDriverRing.reset`. virtio 1.3, 2.8 Packed Virtqueues. Linux:
   * vring_virtqueue_init_packed().
   */
  reset(): void {
    const { u32, w } = this;
    this.descs.reset();
    u32[w + IN_FLIGHT] = u32[w + ERROR] = u32[w + NOTIFY_DISABLED] = 0;
    u32[w + AVAIL_NEXT] = u32[w + AVAIL_PUBLISHED] = u32[w + LAST_USED] = POSITION_FIRST;
    u32[w + KICKED] = u32[w + STAGED_FLAGS] = 0;
    this.tell(RING_EVENT_FLAGS_ENABLE, 0);
    Atomics.store(u32, u32[w + DEVICE] >>> 2, 0);
  }

  /**
   * See `PackedDriverRing.addBufs`. virtio 1.3, 2.8.21 Supplying Buffers to The Device. Linux:
   * virtqueue_add_packed().
   */
  addBufs(count: number): number {
    const { u32, w, descs } = this;
    const limit = Math.min(count, u32[w + CHAIN_CAPACITY]);
    let record = u32[w + CHAINS] >>> 2;
    let added = 0;
    for (; added < limit; added++, record += CHAIN_WORDS) {
      const pieces = descs.check(record);
      if (pieces < 0) {
        const answer = countError(u32, w, VRING_E_CHAIN);
        if (added === 0) return answer;
        break;
      }
      const id = descs.add(record, pieces);
      if (id < 0) break;
      u32[record + HEAD] = id;
    }
    u32[w + IN_FLIGHT] += added;
    return added;
  }

  /** See `PackedDriverRing.publish`. virtio 1.3, 2.8.21.1 Updating flags. */
  publish(): void {
    const { u16, u32, w, descs } = this;
    const next = u32[w + AVAIL_NEXT];
    const published = u32[w + AVAIL_PUBLISHED];
    if (next === published) return;
    // Publish A1: all else must be visible first. Pairs with A1 in TsPackedDevice.lookForMore.
    Atomics.store(u16, (descs.descAt(published) + PVIRTQ_DESC_FLAGS) >>> 1, u32[w + STAGED_FLAGS]);
    u32[w + KICKED] = Math.min(u32[w + KICKED] + distance(published, next, u32[w + NUM]), U16_MAX);
    u32[w + AVAIL_PUBLISHED] = next;
  }

  /**
   * See `PackedDriverRing.kickNeeded`. virtio 1.3, 2.8.10 Event Suppression. Linux:
   * virtqueue_kick_prepare_packed().
   */
  kickNeeded(): boolean {
    const { u32, w } = this;
    const count = u32[w + KICKED];
    if (count === 0) return false;
    u32[w + KICKED] = 0;
    // Barrier E2: after the store of the flags. Pairs with E2 in TsPackedDevice.tell.
    const event = Atomics.load(u32, u32[w + DEVICE] >>> 2);
    const flags = (event >>> 16) & RING_EVENT_FLAGS_MASK;
    if (flags !== RING_EVENT_FLAGS_DESC || (u32[w + FLAGS] & VQ_F_EVENT_IDX) === 0) {
      return flags !== RING_EVENT_FLAGS_DISABLE;
    }
    return passed(event & 0xffff, u32[w + AVAIL_PUBLISHED], count, u32[w + NUM]);
  }

  /**
   * See `PackedDriverRing.getBufs`. virtio 1.3, 2.8.22 Receiving Used Buffers From The Device.
   * Linux: virtqueue_get_buf_ctx_packed().
   */
  getBufs(max: number): number {
    const { u32, w } = this;
    const limit = Math.min(max, u32[w + CHAIN_CAPACITY]);
    let record = u32[w + CHAINS] >>> 2;
    let got = 0;
    for (; got < limit; got++, record += CHAIN_WORDS) {
      const outcome = this.take(record);
      if (outcome === NOTHING) break;
      if (outcome === REFUSED) {
        const answer = refuse(u32, w, VRING_E_USED_ID);
        return got > 0 ? got : answer;
      }
      u32[w + IN_FLIGHT]--;
    }
    u32[w + ERROR] = 0;
    return got;
  }

  /**
   * See `PackedDriverRing.enableCall`. virtio 1.3, 2.8.10 Event Suppression. Linux:
   * virtqueue_enable_cb_prepare_packed().
   */
  enableCall(): boolean {
    const { u32, w } = this;
    // Barrier E1: ask, then look. Pairs with E1 in TsPackedDevice.callNeeded.
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) !== 0) {
      this.tell(RING_EVENT_FLAGS_DESC, u32[w + LAST_USED]);
    } else {
      this.tell(RING_EVENT_FLAGS_ENABLE, 0);
    }
    u32[w + NOTIFY_DISABLED] = 0;
    return this.descs.hasBatch() || this.usedFlags() >= 0;
  }

  /**
   * See `PackedDriverRing.disableCall`. virtio 1.3, 2.8.10 Event Suppression. Linux:
   * virtqueue_disable_cb_packed().
   */
  disableCall(): void {
    this.tell(RING_EVENT_FLAGS_DISABLE, 0);
    this.u32[this.w + NOTIFY_DISABLED] = 1;
  }

  /** Flags of the descriptor at VQ_LAST_USED when a chain is in flight and it is used, else -1. */
  private usedFlags(): number {
    const { u16, u32, w } = this;
    if (u32[w + IN_FLIGHT] === 0) return -1;
    const last = u32[w + LAST_USED];
    // Acquire U1: id and length are read after it. Pairs with U1 in TsPackedDevice.publish.
    const flags = Atomics.load(u16, (this.descs.descAt(last) + PVIRTQ_DESC_FLAGS) >>> 1);
    return isUsed(flags, last) ? flags : -1;
  }

  /** Takes one chain into the record at word `record`: of a batch, or by a used descriptor. */
  private take(record: number): number {
    const { u16, u32, w, descs } = this;
    if (!descs.hasBatch()) {
      const flags = this.usedFlags();
      if (flags < 0) return NOTHING;
      const desc = descs.descAt(u32[w + LAST_USED]);
      const id = u16[(desc + PVIRTQ_DESC_ID) >>> 1];
      const length = (flags & VIRTQ_DESC_F_WRITE) !== 0 ? u32[(desc + VIRTQ_DESC_LEN) >>> 2] : 0;
      if (!descs.isInFlight(id)) return REFUSED;
      const usedBytes = descs.cut(id, length);
      if ((u32[w + FLAGS] & VQ_F_IN_ORDER) === 0) {
        u32[record + HEAD] = id;
        u32[record + USED_BYTES] = usedBytes;
        this.moveOn(descs.free(id));
        return TAKEN;
      }
      descs.beginBatch(descs.batchTo(id), usedBytes);
    }
    this.moveOn(descs.takeOldest(record));
    return TAKEN;
  }

  /** The next used descriptor is so many further on. */
  private moveOn(count: number): void {
    const { u32, w } = this;
    u32[w + LAST_USED] = moved(u32[w + LAST_USED], count, u32[w + NUM]);
  }

  /** Writes the driver's event structure. */
  private tell(flags: number, position: number): void {
    const { u32, w } = this;
    Atomics.store(u32, u32[w + DRIVER] >>> 2, (flags << 16) | position);
  }
}
