import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_USED_BYTES,
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_STAGED_FLAGS,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VQ_WALK_MAX,
  VRING_E_COMPLETION,
  VRING_E_IOV,
  VRING_E_KICK,
  VRING_E_LOOP,
  VRING_E_POSITION,
  VRING_E_UNAVAILABLE,
} from "../spec/ring-state.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  RING_EVENT_FLAGS_MASK,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../spec/virtio-ring.js";
import type { PackedDeviceRing } from "./packed-ring.js";
import type { RecordingDeviceRing } from "./recording-ring.js";
import { TsList } from "./ts-list.js";
import { TsLog } from "./ts-log.js";
import { TsPackedInflight } from "./ts-packed-inflight.js";
import { distance, indexOf, isAvailable, moved, passed, usedMarks } from "./ts-position.js";
import { countError, refuse } from "./ts-words.js";

// Word indices in the state block: byte offsets over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const DRIVER = VQ_DRIVER >>> 2;
const DEVICE = VQ_DEVICE >>> 2;
const CHAINS = VQ_CHAINS >>> 2;
const CHAIN_CAPACITY = VQ_CHAIN_CAPACITY >>> 2;
const IN_FLIGHT = VQ_IN_FLIGHT >>> 2;
const ERROR = VQ_ERROR >>> 2;
const NOTIFY_DISABLED = VQ_NOTIFY_DISABLED >>> 2;
const LAST_AVAIL = VQ_LAST_AVAIL >>> 2;
const AVAIL_SEEN = VQ_AVAIL_SEEN >>> 2;
const USED_NEXT = VQ_USED_NEXT >>> 2;
const USED_PUBLISHED = VQ_USED_PUBLISHED >>> 2;
const SIGNALLED = VQ_SIGNALLED >>> 2;
const SIGNALLED_VALID = VQ_SIGNALLED_VALID >>> 2;
const STAGED_FLAGS = VQ_STAGED_FLAGS >>> 2;

const U16_MAX = 0xffff;

/**
 * The device's half of a packed virtqueue in TypeScript, the twin that the WebAssembly one is held
 * against. It holds views and scratch only: all state is in the state block. Worker thread; never
 * throws, never waits. virtio 1.3, 2.8 Packed Virtqueues.
 */
export class TsPackedDevice implements PackedDeviceRing, RecordingDeviceRing {
  readonly vq: number;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly w: number;
  private readonly list: TsList;
  private readonly log: TsLog;
  private readonly inflight: TsPackedInflight;

  /**
   * Over `memory`, shared or not, which does not grow while the ring exists; `vq` is the address of
   * a device's state block that the host has filled in. No side effect: `start` begins the ring.
   */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.vq = vq;
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
    this.list = new TsList(memory, vq);
    this.log = new TsLog(memory, vq);
    this.inflight = new TsPackedInflight(memory, vq);
  }

  /** See `PackedDeviceRing.start`. virtio 1.3, 2.8.1 Driver and Device Ring Wrap Counters. */
  start(position: number): number {
    const { u32, w } = this;
    const num = u32[w + NUM];
    const avail = position & 0xffff;
    const used = position >>> 16;
    const inFlight = distance(used, avail, num);
    if (indexOf(avail) >= num || indexOf(used) >= num || inFlight > num) {
      return countError(u32, w, VRING_E_POSITION);
    }
    u32[w + LAST_AVAIL] = u32[w + AVAIL_SEEN] = avail;
    u32[w + USED_NEXT] = u32[w + USED_PUBLISHED] = used;
    u32[w + SIGNALLED] = u32[w + SIGNALLED_VALID] = u32[w + STAGED_FLAGS] = u32[w + ERROR] = 0;
    u32[w + IN_FLIGHT] = inFlight;
    u32[w + NOTIFY_DISABLED] = 0;
    this.inflight.start();
    this.tell(RING_EVENT_FLAGS_ENABLE, 0);
    return 0;
  }

  /** See `PackedDeviceRing.getDescs`. virtio 1.3, 2.8.6 Next Flag: Descriptor Chaining. */
  getDescs(max: number): number {
    const { u32, w, list, inflight } = this;
    const limit = Math.min(max, u32[w + CHAIN_CAPACITY]);
    let good = 0;
    let iov = 0;
    list.read = 0;
    for (let looked = 0; looked < limit && list.read < VQ_WALK_MAX; looked++) {
      const left = inflight.left;
      const flags = left > 0 ? 0 : this.lookForMore();
      if (flags < 0) break;
      const last = u32[w + LAST_AVAIL];
      const code = left > 0 ? list.followAgain(iov) : list.follow(last, flags, iov);
      if (code === VRING_E_LOOP || code === VRING_E_UNAVAILABLE) {
        refuse(u32, w, code);
        break;
      }
      if (code === VRING_E_IOV && iov > 0) break; // it may fit when the table is empty
      if (code !== 0 && this.mustWait(left)) break;
      if (left > 0) inflight.passAgain(list.count);
      else this.pass(list.count);
      u32[w + ERROR] = 0;
      if (code === 0) {
        list.record(good++, list.id + list.count * 0x1_0000, iov);
        iov = list.iov;
      } else {
        countError(u32, w, code);
        this.addUsed(list.id | (list.count << 16), 0);
      }
    }
    const error = u32[w + ERROR];
    return good > 0 || error === 0 ? good : -error;
  }

  /** See `PackedDeviceRing.addUsed`. virtio 1.3, 2.8.2 Polling of descriptors. */
  addUsed(head: number, usedBytes: number): number {
    const { u32, w } = this;
    const count = head >>> 16;
    if (!this.mayUse(head & 0xffff, count, 0)) return countError(u32, w, VRING_E_COMPLETION);
    this.stage(head & 0xffff, count, usedBytes >>> 0);
    return 0;
  }

  /** See `PackedDeviceRing.addUsedN`. virtio 1.3, 2.8.8 In-order use of descriptors. */
  addUsedN(count: number): number {
    const { u32, w } = this;
    const limit = Math.min(count, u32[w + CHAIN_CAPACITY]);
    const inOrder = (u32[w + FLAGS] & VQ_F_IN_ORDER) !== 0;
    let record = u32[w + CHAINS] >>> 2;
    this.log.buffers(limit);
    let run = 0; // descriptors of the records that are not written, whose run goes on
    for (let i = 1; i <= limit; i++, record += CHAIN_BYTES >>> 2) {
      const head = u32[record + (CHAIN_HEAD >>> 2)];
      const usedBytes = u32[record + (CHAIN_USED_BYTES >>> 2)];
      const descs = head >>> 16;
      if (!this.mayUse(head & 0xffff, descs, run)) return countError(u32, w, VRING_E_COMPLETION);
      run += descs;
      if (inOrder && i < limit && usedBytes === u32[record + (CHAIN_IN_BYTES >>> 2)]) continue;
      this.stage(head & 0xffff, run, usedBytes);
      run = 0;
    }
    return 0;
  }

  /** See `PackedDeviceRing.publish`. virtio 1.3, 2.8.2 Polling of descriptors. */
  publish(): void {
    const { u16, u32, w, inflight } = this;
    const next = u32[w + USED_NEXT];
    const published = u32[w + USED_PUBLISHED];
    if (next === published) return;
    if (inflight.isOn) inflight.publishing(next);
    // Publish U1: the descriptors behind must be visible first. Pairs with U1 in TsPackedDriver.
    const flags = (this.list.descAt(published) + PVIRTQ_DESC_FLAGS) >>> 1;
    Atomics.store(u16, flags, u32[w + STAGED_FLAGS]);
    const count = distance(published, next, u32[w + NUM]);
    u32[w + SIGNALLED] = Math.min(u32[w + SIGNALLED] + count, U16_MAX);
    u32[w + USED_PUBLISHED] = next;
    if (inflight.isOn) inflight.published(next);
    if ((u32[w + FLAGS] & VQ_F_LOG_USED) !== 0) this.logUsed(indexOf(published), count);
  }

  /** See `PackedDeviceRing.callNeeded`. virtio 1.3, 2.8.10 Event Suppression. */
  callNeeded(): boolean {
    const { u32, w } = this;
    const count = u32[w + SIGNALLED];
    if (count === 0) return false;
    const decided = u32[w + SIGNALLED_VALID] !== 0;
    u32[w + SIGNALLED] = 0;
    u32[w + SIGNALLED_VALID] = 1;
    // Barrier E1: after the store of the flags. Pairs with E1 in TsPackedDriver.enableCall.
    const event = Atomics.load(u32, u32[w + DRIVER] >>> 2);
    const flags = (event >>> 16) & RING_EVENT_FLAGS_MASK;
    if (flags !== RING_EVENT_FLAGS_DESC || (u32[w + FLAGS] & VQ_F_EVENT_IDX) === 0) {
      return flags !== RING_EVENT_FLAGS_DISABLE;
    }
    return !decided || passed(event & 0xffff, u32[w + USED_PUBLISHED], count, u32[w + NUM]);
  }

  /** See `PackedDeviceRing.enableKick`. virtio 1.3, 2.8.10 Event Suppression. */
  enableKick(): boolean {
    const { u32, w } = this;
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) !== 0) {
      this.availLen();
      this.tell(RING_EVENT_FLAGS_DESC, u32[w + AVAIL_SEEN]);
    } else {
      this.tell(RING_EVENT_FLAGS_ENABLE, 0);
    }
    u32[w + NOTIFY_DISABLED] = 0;
    return this.availLen() !== 0;
  }

  /** See `PackedDeviceRing.disableKick`. virtio 1.3, 2.8.10 Event Suppression. */
  disableKick(): void {
    if (this.u32[this.w + NOTIFY_DISABLED] !== 0) return;
    this.tell(RING_EVENT_FLAGS_DISABLE, 0);
    this.u32[this.w + NOTIFY_DISABLED] = 1;
  }

  /** See `PackedDeviceRing.availLen`. virtio 1.3, 2.8.2 Polling of descriptors. */
  availLen(): number {
    const { u32, w, list } = this;
    const num = u32[w + NUM];
    const most = num - u32[w + IN_FLIGHT];
    let seen = u32[w + AVAIL_SEEN];
    let count = distance(u32[w + LAST_AVAIL], seen, num);
    while (count < most && isAvailable(list.flagsAt(seen), seen)) {
      seen = moved(seen, 1, num);
      count++;
    }
    u32[w + AVAIL_SEEN] = seen;
    return count + this.inflight.left;
  }

  /** See `PackedDeviceRing.kicked`. virtio 1.3, 2.9 Driver Notifications. */
  kicked(position: number): number {
    const { u32, w } = this;
    const isGood = position <= 0xffff && indexOf(position) < u32[w + NUM];
    return isGood ? 0 : countError(u32, w, VRING_E_KICK);
  }

  /** Flags of the next descriptor when it may be popped, else -1: the burst ends. */
  private lookForMore(): number {
    const { u32, w } = this;
    const last = u32[w + LAST_AVAIL];
    if (u32[w + IN_FLIGHT] < u32[w + NUM]) {
      // Acquire A1: the list is read after it. Pairs with A1 in TsPackedDriver.publish.
      const flags = this.list.flagsAt(last);
      if (isAvailable(flags, last)) return flags;
      u32[w + AVAIL_SEEN] = last;
    }
    u32[w + ERROR] = 0;
    return -1;
  }

  /**
   * Whether a malformed list has to wait for those in flight, of whose descriptors `left` are to be
   * resubmitted still: it may not come back before them.
   */
  private mustWait(left: number): boolean {
    const { u32, w } = this;
    return (u32[w + FLAGS] & VQ_F_IN_ORDER) !== 0 && u32[w + IN_FLIGHT] > left;
  }

  /** Moves past the list just followed, whose descriptors are in flight from now on. */
  private pass(count: number): void {
    const { u32, w } = this;
    const num = u32[w + NUM];
    const last = u32[w + LAST_AVAIL];
    if (this.inflight.isOn) {
      this.publish(); // the entries that are free then are the list's
      this.inflight.record(last, this.list);
    }
    const next = moved(last, count, num);
    if (distance(last, u32[w + AVAIL_SEEN], num) < count) u32[w + AVAIL_SEEN] = next;
    u32[w + LAST_AVAIL] = next;
    u32[w + IN_FLIGHT] += count;
  }

  /**
   * Whether `count` descriptors with this id may be used as the last of a run, behind `run` that
   * are not written. Side effect, when they may: they count as used in the record.
   */
  private mayUse(id: number, count: number, run: number): boolean {
    const { u32, w, inflight } = this;
    if (count === 0 || run + count > u32[w + IN_FLIGHT]) return false;
    return !inflight.isOn || inflight.use(id, count);
  }

  /** Marks `count` used descriptors, from that with this index on. */
  private logUsed(index: number, count: number): void {
    const num = this.u32[this.w + NUM];
    const all = Math.min(count, num);
    const upToEnd = Math.min(all, num - index);
    this.log.descs(index * VIRTQ_DESC_BYTES, upToEnd * VIRTQ_DESC_BYTES);
    this.log.descs(0, (all - upToEnd) * VIRTQ_DESC_BYTES);
  }

  /** Writes the next used descriptor, for `count` of the ring; `publish` makes it visible. */
  private stage(id: number, count: number, usedBytes: number): void {
    const { u16, u32, w } = this;
    const next = u32[w + USED_NEXT];
    const desc = this.list.descAt(next);
    const flags = usedMarks(next) | (usedBytes !== 0 ? VIRTQ_DESC_F_WRITE : 0);
    u32[(desc + VIRTQ_DESC_LEN) >>> 2] = usedBytes;
    u16[(desc + PVIRTQ_DESC_ID) >>> 1] = id;
    if (next === u32[w + USED_PUBLISHED]) u32[w + STAGED_FLAGS] = flags;
    else u16[(desc + PVIRTQ_DESC_FLAGS) >>> 1] = flags;
    u32[w + USED_NEXT] = moved(next, count, u32[w + NUM]);
    u32[w + IN_FLIGHT] -= count;
  }

  /** Writes the device's event structure. Barrier E2: pairs with TsPackedDriver.kickNeeded. */
  private tell(flags: number, position: number): void {
    const { u32, w } = this;
    Atomics.store(u32, u32[w + DEVICE] >>> 2, (flags << 16) | position);
    this.log.deviceAreaHead();
  }
}
