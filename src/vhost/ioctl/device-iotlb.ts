import { VhostError } from "../../spec/errno.js";
import { hasFeature } from "../../spec/features.js";
import {
  VHOST_ACCESS_RW,
  VHOST_BACKEND_F_IOTLB_MSG_V2,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MISS,
  VHOST_IOTLB_UPDATE,
  VHOST_MSG_BYTES,
} from "../../spec/vhost-iotlb.js";
import { accessOk } from "../user-access.js";
import { Iotlb } from "./iotlb.js";
import { decodeMsg, encodeMsg, type IotlbMsg } from "./iotlb-message.js";
import { IotlbMisses } from "./iotlb-misses.js";
import type { IotlbQuestion } from "./iotlb-questions.js";

const ADDRESS_MAX = 2n ** 64n - 1n;

/**
 * A device's translations and its talk about them, over the device's descriptor. A device has none
 * until VIRTIO_F_ACCESS_PLATFORM is accepted, and then until its end or its reset. Kernel's thread.
 */
export class DeviceIotlb {
  readonly misses = new IotlbMisses();
  #table: Iotlb | undefined;

  /** The translations; `undefined`: the rings' addresses are the program's own. */
  get table(): Iotlb | undefined {
    return this.#table;
  }

  /** An empty table in place of what there was. Linux: vhost_init_device_iotlb(). */
  init(): void {
    if (this.#table) this.#table.clear();
    else this.#table = new Iotlb();
  }

  /** None any more, and nothing asked; who waits is told. */
  clear(): void {
    this.#table?.clear(); // for those who read it yet
    this.#table = undefined;
    this.misses.clear();
  }

  /**
   * A ring asks where `iova` is, for `perm`, having found it not in the table `seen` (see
   * `IotlbView`); `wake` has it look again. That is at once where the table has changed since, and
   * has it now: its answer came between the ring's look and this, and no other may come. Linux has
   * no such moment: an answer waits there for the ring's turn to be over.
   */
  miss(
    { iova, perm, seen }: Pick<IotlbQuestion, "iova" | "perm" | "seen">,
    backendFeatures: bigint,
    wake: () => void,
  ): void {
    const table = this.#table;
    if (!table) return;
    if (seen !== table.changeCount && table.first(iova, iova)) {
      wake();
      return;
    }
    const isV2 = hasFeature(backendFeatures, VHOST_BACKEND_F_IOTLB_MSG_V2);
    this.misses.add({ iova, perm, isV2, wake });
  }

  /**
   * Reads the question that has waited longest into `into`: bytes; 0 for less room than one takes;
   * EAGAIN: none waits; EBADFD: none ever will. Linux: vhost_chr_read_iter().
   */
  read(into: Uint8Array, isNonblock: boolean): number {
    if (into.length < VHOST_MSG_BYTES) return 0;
    const miss = this.misses.read();
    if (miss) {
      const { iova, perm, isV2 } = miss;
      into.set(encodeMsg({ iova, size: 0n, uaddr: 0n, perm, type: VHOST_IOTLB_MISS }, isV2));
      return VHOST_MSG_BYTES;
    }
    if (isNonblock || this.#table) throw new VhostError("EAGAIN", "no message waits");
    throw new VhostError("EBADFD", "the device asks nothing: none of its addresses is its own");
  }

  /**
   * An answer, from anyone who has the device open: the bytes of a message, as which all is taken.
   * EINVAL: it is none; EFAULT: it can't be done, and nothing has changed. Linux:
   * vhost_chr_write_iter().
   */
  write(bytes: Uint8Array): number {
    const msg = decodeMsg(bytes);
    const table = this.#table;
    if (table && msg.type === VHOST_IOTLB_UPDATE) this.#update(table, msg);
    else if (table && msg.type === VHOST_IOTLB_INVALIDATE) {
      table.delete(msg.iova, BigInt.asUintN(64, msg.iova + msg.size - 1n));
    } else throw new VhostError("EFAULT", "the device can't take it", { ...msg });
    return VHOST_MSG_BYTES;
  }

  #update(table: Iotlb, { iova, size, uaddr, perm }: IotlbMsg): void {
    const last = iova + size - 1n;
    if (last > ADDRESS_MAX || !mayLieAt(uaddr, size, perm)) {
      throw new VhostError("EFAULT", "the range can't be there", { iova, size, uaddr });
    }
    table.add({ start: iova, last, uaddr, perm });
    this.misses.answer(iova, last);
  }
}

/** Whether the program can have a range there. Linux: umem_access_ok(). */
function mayLieAt(uaddr: bigint, size: bigint, perm: number): boolean {
  if (uaddr > ADDRESS_MAX - size) return false;
  return (perm & VHOST_ACCESS_RW) === 0 || accessOk(uaddr, size);
}
