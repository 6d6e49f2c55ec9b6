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
  VQ_F_LINUX,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_RESUBMIT_COUNT,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VQ_WALK_MAX,
  VRING_E_AVAIL_INDEX,
  VRING_E_COMPLETION,
  VRING_E_HEAD,
  VRING_E_IN_FLIGHT,
  VRING_E_IOV,
  VRING_E_KICK,
} from "../spec/ring-state.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../spec/virtio-ring.js";
import type { RecordingDeviceRing } from "./recording-ring.js";
import { TsChain } from "./ts-chain.js";
import { TsInflight } from "./ts-inflight.js";
import { TsLinuxDevice } from "./ts-linux-device.js";
import { TsLog } from "./ts-log.js";
import { countError, needEvent, refuse } from "./ts-words.js";

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
const RESUBMIT_COUNT = VQ_RESUBMIT_COUNT >>> 2;

/**
 * The device's half of a split virtqueue in TypeScript, the twin that the WebAssembly one is held
 * against. It holds views and scratch only: all state is in the state block. Worker thread; never
 * throws, never waits. virtio 1.3, 2.7 Split Virtqueues. Linux: drivers/vhost/vhost.c.
 */
export class TsSplitDevice implements RecordingDeviceRing {
  readonly vq: number;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly w: number;
  private readonly chain: TsChain;
  private readonly linux: TsLinuxDevice;
  private readonly log: TsLog;
  private readonly inflight: TsInflight;

  /**
   * Over `memory`, shared or not, which does not grow while the ring exists; `vq` is the address of
   * a device's state block that the host has filled in. No side effect: `start` begins the ring.
   */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.vq = vq;
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
    this.chain = new TsChain(memory, vq);
    this.log = new TsLog(memory, vq);
    this.linux = new TsLinuxDevice(memory, vq, this.log);
    this.inflight = new TsInflight(memory, vq);
  }

  /** See `DeviceRing.start`. Linux: vhost_vq_init_access(). */
  start(position: number): number {
    const { u16, u32, w } = this;
    const used = u32[w + DEVICE] >>> 1;
    const usedIdx = Atomics.load(u16, used + (VIRTQ_RING_IDX >>> 1));
    u32[w + LAST_AVAIL] = u32[w + AVAIL_SEEN] = position & 0xffff;
    u32[w + USED_NEXT] = u32[w + USED_PUBLISHED] = u32[w + SIGNALLED] = usedIdx;
    u32[w + SIGNALLED_VALID] = u32[w + IN_FLIGHT] = u32[w + ERROR] = 0;
    if (!this.isLinux()) u32[w + NOTIFY_DISABLED] = 0;
    const usedFlags = u32[w + NOTIFY_DISABLED] === 0 ? 0 : VIRTQ_USED_F_NO_NOTIFY;
    Atomics.store(u16, used + (VIRTQ_RING_FLAGS >>> 1), usedFlags);
    this.inflight.start();
    if (this.inflight.isOn) u32[w + IN_FLIGHT] = u32[w + RESUBMIT_COUNT];
    this.log.deviceAreaHead();
    return 0;
  }

  /**
   * See `DeviceRing.getDescs`. virtio 1.3, 2.7.5 The Virtqueue Descriptor Table. Linux:
   * vhost_get_vq_desc().
   */
  getDescs(max: number): number {
    if (this.isLinux()) return this.linux.getDescs(max);
    const { u32, w, chain, inflight } = this;
    const limit = Math.min(max, u32[w + CHAIN_CAPACITY]);
    const isRecorded = inflight.isOn;
    let last = u32[w + LAST_AVAIL];
    let good = 0;
    let iov = 0;
    chain.read = 0;
    for (let looked = 0; looked < limit && chain.read < VQ_WALK_MAX; looked++) {
      const left = isRecorded ? inflight.left : 0;
      const head = left > 0 ? inflight.headAgain() : this.nextHead(last);
      if (head < 0) break;
      const code = chain.follow(head, iov);
      if (code === VRING_E_IOV && iov > 0) break; // it may fit when the table is empty
      if (code !== 0 && this.mustWait(left)) break;
      u32[w + ERROR] = 0;
      if (left > 0) {
        inflight.passAgain(1);
      } else {
        if (isRecorded) inflight.record(head);
        last = (last + 1) & 0xffff; // wraps at 65536, not at the queue size: masked on use
        u32[w + IN_FLIGHT]++;
      }
      if (code === 0) {
        chain.record(good++, head, iov);
        iov = chain.iov;
      } else {
        countError(u32, w, code);
        this.use(head, 0);
      }
    }
    u32[w + LAST_AVAIL] = last;
    const error = u32[w + ERROR];
    return good > 0 || error === 0 ? good : -error;
  }

  /**
   * See `DeviceRing.addUsed`. virtio 1.3, 2.7.8 The Virtqueue Used Ring. Linux: vhost_add_used().
   */
  addUsed(head: number, usedBytes: number): number {
    const { u32, w } = this;
    if (!this.mayUse(head, 1)) return countError(u32, w, VRING_E_COMPLETION);
    this.use(head, usedBytes);
    return 0;
  }

  /**
   * See `DeviceRing.addUsedN`. virtio 1.3, 2.7.8 The Virtqueue Used Ring. Linux:
   * vhost_add_used_n().
   */
  addUsedN(count: number): number {
    const { u32, w } = this;
    const limit = Math.min(count, u32[w + CHAIN_CAPACITY]);
    const inOrder = (u32[w + FLAGS] & VQ_F_IN_ORDER) !== 0;
    let record = u32[w + CHAINS] >>> 2;
    let run = 1; // chains from the first that is not written to the one looked at
    this.log.buffers(limit);
    for (let i = 1; i <= limit; i++, record += CHAIN_BYTES >>> 2) {
      const head = u32[record + (CHAIN_HEAD >>> 2)];
      const usedBytes = u32[record + (CHAIN_USED_BYTES >>> 2)];
      if (!this.mayUse(head, run)) return countError(u32, w, VRING_E_COMPLETION);
      if (inOrder && i < limit && usedBytes === u32[record + (CHAIN_IN_BYTES >>> 2)]) {
        run++;
        continue;
      }
      if (this.inflight.isOn) this.recordRun(record, run);
      u32[w + IN_FLIGHT] -= run;
      this.stage(head, usedBytes, run);
      run = 1;
    }
    return 0;
  }

  /**
   * See `DeviceRing.publish`. virtio 1.3, 2.7.8 The Virtqueue Used Ring. Linux: vhost_add_used_n().
   */
  publish(): void {
    const { u16, u32, w } = this;
    const next = u32[w + USED_NEXT];
    const before = u32[w + USED_PUBLISHED];
    if (next === before) return;
    // Publish U1: the elements above must be visible first. Pairs with U1 in TsSplitDriver.getBufs.
    Atomics.store(u16, (u32[w + DEVICE] + VIRTQ_RING_IDX) >>> 1, next);
    u32[w + USED_PUBLISHED] = next;
    if (this.isLinux()) this.linux.published(before, next);
    const count = (next - before) & 0xffff;
    if (this.inflight.isOn) this.inflight.published(count, next);
    if ((u32[w + FLAGS] & VQ_F_LOG_USED) !== 0) this.logUsed(before, count);
  }

  /**
   * See `DeviceRing.callNeeded`. virtio 1.3, 2.7.7 Used Buffer Notification Suppression. Linux:
   * vhost_notify().
   */
  callNeeded(): boolean {
    const { u16, u32, w } = this;
    const old = u32[w + SIGNALLED];
    const published = u32[w + USED_PUBLISHED];
    if (old === published) return false;
    const decided = u32[w + SIGNALLED_VALID] !== 0;
    u32[w + SIGNALLED] = published;
    u32[w + SIGNALLED_VALID] = 1;
    // Barrier E1: after the store of used.idx. Pairs with E1 in TsSplitDriver.enableCall.
    const avail = u32[w + DRIVER] >>> 1;
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) === 0) {
      const flags = Atomics.load(u16, avail + (VIRTQ_RING_FLAGS >>> 1));
      return (flags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    if (!decided) return true;
    const usedEvent = avail + (VIRTQ_RING_ELEMENTS >>> 1) + u32[w + NUM];
    return needEvent(Atomics.load(u16, usedEvent), published, old);
  }

  /**
   * See `DeviceRing.enableKick`. virtio 1.3, 2.7.10 Available Buffer Notification Suppression.
   * Linux: vhost_enable_notify().
   */
  enableKick(): boolean {
    if (this.isLinux()) return this.linux.enableKick();
    const { u16, u32, w } = this;
    // Barrier E2: ask, then look. Pairs with E2 in TsSplitDriver.kickNeeded.
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) !== 0) {
      const elements = u32[w + NUM] * VIRTQ_USED_ELEM_BYTES;
      const availEvent = (u32[w + DEVICE] + VIRTQ_RING_ELEMENTS + elements) >>> 1;
      Atomics.store(u16, availEvent, this.loadAvailIdx());
      this.log.availEvent();
    } else {
      Atomics.store(u16, (u32[w + DEVICE] + VIRTQ_RING_FLAGS) >>> 1, 0);
      this.log.deviceAreaHead();
    }
    u32[w + NOTIFY_DISABLED] = 0;
    return this.availLen() !== 0;
  }

  /**
   * See `DeviceRing.disableKick`. virtio 1.3, 2.7.10 Available Buffer Notification Suppression.
   * Linux: vhost_disable_notify().
   */
  disableKick(): void {
    const { u16, u32, w } = this;
    if (u32[w + NOTIFY_DISABLED] !== 0) return;
    if ((u32[w + FLAGS] & VQ_F_EVENT_IDX) === 0) {
      Atomics.store(u16, (u32[w + DEVICE] + VIRTQ_RING_FLAGS) >>> 1, VIRTQ_USED_F_NO_NOTIFY);
      this.log.deviceAreaHead();
    }
    u32[w + NOTIFY_DISABLED] = 1;
  }

  /** See `DeviceRing.availLen`. virtio 1.3, 2.7.6 The Virtqueue Available Ring. */
  availLen(): number {
    const { u32, w } = this;
    return ((this.loadAvailIdx() - u32[w + LAST_AVAIL]) & 0xffff) + this.inflight.left;
  }

  /** See `DeviceRing.kicked`. virtio 1.3, 2.9 Driver Notifications. */
  kicked(position: number): number {
    return position <= 0xffff ? 0 : countError(this.u32, this.w, VRING_E_KICK);
  }

  /** Whether the policy is "linux": see `DeviceRing`. */
  private isLinux(): boolean {
    return (this.u32[this.w + FLAGS] & VQ_F_LINUX) !== 0;
  }

  /** Acquire A1: heads are read after it. Pairs with A1 in TsSplitDriver.publish. */
  private loadAvailIdx(): number {
    return Atomics.load(this.u16, (this.u32[this.w + DRIVER] + VIRTQ_RING_IDX) >>> 1);
  }

  /** Reads avail.idx when all that was seen is popped. False: the burst ends, refused or empty. */
  private lookForMore(last: number): boolean {
    const { u32, w } = this;
    const idx = this.loadAvailIdx();
    if (idx === last) {
      u32[w + ERROR] = 0;
      return false;
    }
    if (((idx - last) & 0xffff) > u32[w + NUM]) {
      refuse(u32, w, VRING_E_AVAIL_INDEX);
      return false;
    }
    u32[w + AVAIL_SEEN] = idx;
    return true;
  }

  /** The next head of the available ring, or -1: the burst ends, refused or empty. */
  private nextHead(last: number): number {
    const { u16, u32, w } = this;
    const mask = u32[w + NUM] - 1;
    if (last === u32[w + AVAIL_SEEN] && !this.lookForMore(last)) return -1;
    if (u32[w + IN_FLIGHT] > mask) {
      refuse(u32, w, VRING_E_IN_FLIGHT);
      return -1;
    }
    const ring = (u32[w + DRIVER] + VIRTQ_RING_ELEMENTS) >>> 1;
    const head = u16[ring + (last & mask) * (VIRTQ_AVAIL_ELEM_BYTES >>> 1)];
    if (head <= mask) return head;
    refuse(u32, w, VRING_E_HEAD);
    return -1;
  }

  /**
   * Whether a malformed chain has to wait: it may not come back before those in flight, of which
   * `left` are to be resubmitted still.
   */
  private mustWait(left: number): boolean {
    const { u32, w } = this;
    return (u32[w + FLAGS] & VQ_F_IN_ORDER) !== 0 && u32[w + IN_FLIGHT] > left;
  }

  /** Whether `head` may be used as the last of a run of so many chains. */
  private mayUse(head: number, run: number): boolean {
    const { u32, w } = this;
    return run <= u32[w + IN_FLIGHT] && head >= 0 && head < u32[w + NUM];
  }

  /** Uses one chain that is in flight. */
  private use(head: number, usedBytes: number): void {
    if (this.inflight.isOn) this.inflight.use(head);
    this.u32[this.w + IN_FLIGHT]--;
    this.stage(head, usedBytes, 1);
  }

  /** Records that a run of chains is staged, the last of which has its record at word `last`. */
  private recordRun(last: number, run: number): void {
    const words = CHAIN_BYTES >>> 2;
    for (let record = last - (run - 1) * words; record <= last; record += words) {
      this.inflight.use(this.u32[record + (CHAIN_HEAD >>> 2)]);
    }
  }

  /** Marks `count` elements from that of index `before` on, and what published them. */
  private logUsed(before: number, count: number): void {
    const num = this.u32[this.w + NUM];
    const slot = before & (num - 1);
    const all = Math.min(count, num);
    const upToEnd = Math.min(all, num - slot);
    const offset = VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
    this.log.deviceArea(offset, upToEnd * VIRTQ_USED_ELEM_BYTES);
    this.log.deviceArea(VIRTQ_RING_ELEMENTS, (all - upToEnd) * VIRTQ_USED_ELEM_BYTES);
    this.log.deviceAreaHead();
  }

  /** Writes the next element of the used ring, for `run` chains, seen after `publish`. */
  private stage(head: number, usedBytes: number, run: number): void {
    const { u32, w } = this;
    const next = u32[w + USED_NEXT];
    const slot = next & (u32[w + NUM] - 1);
    const element = (u32[w + DEVICE] + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES) >>> 2;
    u32[element] = head;
    u32[element + (VIRTQ_USED_ELEM_LEN >>> 2)] = usedBytes;
    u32[w + USED_NEXT] = (next + run) & 0xffff;
  }
}
