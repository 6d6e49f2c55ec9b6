import type { DeviceRing } from "../ring/ring.js";
import { RingTables } from "../ring/tables.js";
import {
  VQ_AVAIL_SEEN,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_FLAGS,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_USER,
  VQ_USER_NOTIFY_ON_EMPTY,
  VQ_USER_UNREADABLE,
  VQ_USER_UNWRITABLE,
  VRING_E_MAPPING,
} from "../spec/ring-state.js";
import { VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_RING_FLAGS } from "../spec/virtio-ring.js";

/**
 * A ring of policy linux that its owner may have put where nothing is mapped, or may not be
 * written: it is left alone there, and every look is an error, VRING_E_MAPPING. What is the matter
 * stands in VQ_USER; nothing most often, and then it is the ring itself. Worker's thread. Linux:
 * vhost_get_user(), vhost_put_user().
 */
export class UserRing implements DeviceRing {
  readonly vq: number;
  readonly #ring: DeviceRing;
  readonly #tables: RingTables;
  readonly #view: DataView;
  /** Something was used since the last question whether to call. */
  #hasUsed = false;

  constructor(memory: WebAssembly.Memory, ring: DeviceRing) {
    this.vq = ring.vq;
    this.#ring = ring;
    this.#tables = new RingTables(memory, ring.vq);
    this.#view = new DataView(memory.buffer);
  }

  #is(bits: number): boolean {
    return (this.#tables.word(VQ_USER) & bits) !== 0;
  }

  get #hasEventIdx(): boolean {
    return (this.#tables.word(VQ_FLAGS) & VQ_F_EVENT_IDX) !== 0;
  }

  start(position: number): number {
    return this.#ring.start(position);
  }

  getDescs(max: number): number {
    if (!this.#is(VQ_USER_UNREADABLE)) return this.#ring.getDescs(max);
    this.#tables.setWord(VQ_ERROR, VRING_E_MAPPING);
    this.#tables.countError(VRING_E_MAPPING);
    return -VRING_E_MAPPING;
  }

  addUsed(head: number, usedBytes: number): number {
    this.#hasUsed = true;
    if (!this.#is(VQ_USER_UNWRITABLE)) return this.#ring.addUsed(head, usedBytes);
    this.#tables.countError(VRING_E_MAPPING);
    return -VRING_E_MAPPING;
  }

  addUsedN(count: number): number {
    this.#hasUsed = true;
    if (!this.#is(VQ_USER_UNWRITABLE)) return this.#ring.addUsedN(count);
    for (let i = 0; i < count; i++) this.#tables.countError(VRING_E_MAPPING);
    return -VRING_E_MAPPING;
  }

  publish(): void {
    if (!this.#is(VQ_USER_UNWRITABLE)) this.#ring.publish();
  }

  /** Also for what could not be put in the used ring. */
  callNeeded(): boolean {
    const hasUsed = this.#hasUsed;
    this.#hasUsed = false;
    const tables = this.#tables;
    if (tables.word(VQ_USER) === 0) return this.#ring.callNeeded();
    if (!hasUsed || this.#is(VQ_USER_UNREADABLE)) return false;
    const isEmpty = tables.word(VQ_AVAIL_SEEN) === tables.word(VQ_LAST_AVAIL);
    if (isEmpty && this.#is(VQ_USER_NOTIFY_ON_EMPTY)) return true;
    if (this.#hasEventIdx || !this.#is(VQ_USER_UNWRITABLE)) return this.#ring.callNeeded();
    const flags = this.#view.getUint16(tables.word(VQ_DRIVER) + VIRTQ_RING_FLAGS, true);
    return (flags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }

  get #isKickDisabled(): boolean {
    return this.#tables.word(VQ_NOTIFY_DISABLED) !== 0;
  }

  disableKick(): void {
    if (this.#hasEventIdx || !this.#is(VQ_USER_UNWRITABLE)) {
      this.#ring.disableKick();
      return;
    }
    if (this.#isKickDisabled) return;
    this.#tables.setWord(VQ_NOTIFY_DISABLED, 1);
    this.#tables.countError(VRING_E_MAPPING);
  }

  enableKick(): boolean {
    if (!this.#is(VQ_USER_UNREADABLE | VQ_USER_UNWRITABLE)) return this.#ring.enableKick();
    if (!this.#isKickDisabled) return false;
    this.#tables.setWord(VQ_NOTIFY_DISABLED, 0);
    this.#tables.countError(VRING_E_MAPPING);
    return false;
  }

  availLen(): number {
    return this.#is(VQ_USER_UNREADABLE) ? 0 : this.#ring.availLen();
  }

  kicked(position: number): number {
    return this.#ring.kicked(position);
  }
}
