// Memory of a guest behind an IOMMU: its addresses are pages here and there in the process that has
// the device. The device is told of them when it asks, a page at a time, in any order, late, or
// never. What a driver does there goes by the tables of this file alone.

import type { VhostOpened } from "#dist/devices/vhost-files.js";
import { VHOST_IOTLB_MISS } from "#dist/spec/vhost-iotlb.js";
import { iotlbInvalidate, iotlbUpdate } from "#dist/vhost/ioctl/iotlb-front.js";
import type { Random } from "../fuzz/random.js";
import type { IoctlLab } from "./ioctl.js";
import { loadU16, storeU16 } from "./whole-u16.js";

export const PAGE = 4096;
const PAGE_MASK = BigInt(PAGE - 1);
const MSG_BYTES = 72;
/** What a page holds that is not the guest's any more. */
export const POISON = 0xa5;

/** A question that was read. */
export interface Question {
  readonly iova: bigint;
  readonly perm: number;
}

interface Page {
  user: number;
  readonly perm: number;
}

const pageOf = (iova: bigint) => iova & ~PAGE_MASK;

export class Viommu {
  /** Questions that were read and not answered. */
  readonly open: Question[] = [];
  /** How many were read. */
  askedCount = 0;
  /** Pages that the device is never told of. */
  readonly refused = new Set<bigint>();
  readonly #pages = new Map<bigint, Page>();
  readonly #spare: number[] = [];
  /** Pages that are on their way: the device is not told of them. */
  readonly #moving = new Set<bigint>();

  constructor(
    readonly lab: IoctlLab,
    readonly device: VhostOpened & { fd: number },
    readonly random: Random,
  ) {}

  /** A page of the process's, any of several. */
  #page(): number {
    const { shared } = this.lab;
    while (this.#spare.length < 16) this.#spare.push(shared.allocGuest(PAGE, PAGE));
    const [page] = this.#spare.splice(this.random.below(this.#spare.length), 1);
    return page as number;
  }

  /** The guest has memory there from now on; `perm`: what the device may do with it. */
  map(iova: bigint, bytes: number, perm = 3): void {
    for (let page = pageOf(iova); page < iova + BigInt(bytes); page += BigInt(PAGE)) {
      if (!this.#pages.has(page)) this.#pages.set(page, { user: this.#page(), perm });
    }
  }

  /** Where in the process it is: a user address. */
  at(iova: bigint): number {
    const page = this.#pages.get(pageOf(iova));
    if (!page) throw new Error(`nothing is mapped at 0x${iova.toString(16)}`);
    return page.user + Number(iova & PAGE_MASK);
  }

  write(iova: bigint, bytes: Uint8Array): void {
    this.#forEach(iova, bytes.length, (at, from, to) => {
      this.lab.shared.bytes.set(bytes.subarray(from, to), at);
    });
  }

  read(iova: bigint, bytes: number): Uint8Array {
    const all = new Uint8Array(bytes);
    this.#forEach(iova, bytes, (at, from, to) => {
      all.set(this.lab.shared.bytes.subarray(at, at + to - from), from);
    });
    return all;
  }

  /** Each page's part of a range: its user address, and which bytes of the range it has. */
  #forEach(iova: bigint, bytes: number, part: (at: number, from: number, to: number) => void) {
    for (let from = 0; from < bytes; ) {
      const start = iova + BigInt(from);
      const to = Math.min(bytes, from + PAGE - Number(start & PAGE_MASK));
      part(this.at(start), from, to);
      from = to;
    }
  }

  u16(iova: bigint): number {
    return loadU16(this.lab.shared.view, this.at(iova));
  }

  setU16(iova: bigint, value: number): void {
    storeU16(this.lab.shared.view, this.at(iova), value);
  }

  u32(iova: bigint): number {
    return (this.u16(iova) | (this.u16(iova + 2n) << 16)) >>> 0;
  }

  /** Reads what the device asks now. */
  listen(): void {
    const bytes = new Uint8Array(MSG_BYTES);
    const view = new DataView(bytes.buffer);
    while (this.device.file.poll() !== 0) {
      if (this.device.file.read(bytes, true) !== MSG_BYTES) throw new Error("it is no message");
      if (bytes[33] !== VHOST_IOTLB_MISS) throw new Error("it is no question");
      this.open.push({ iova: view.getBigUint64(8, true), perm: bytes[32] as number });
      this.askedCount++;
    }
  }

  /** Answers one of the questions, if there is one that is not refused, by a page. */
  answerOne(): boolean {
    const good = this.open.filter(({ iova }) => {
      return !this.refused.has(pageOf(iova)) && !this.#moving.has(pageOf(iova));
    });
    if (good.length === 0) return false;
    const question = this.random.pick(good);
    this.open.splice(this.open.indexOf(question), 1);
    this.tell(pageOf(question.iova));
    return true;
  }

  /** Tells the device of a page. */
  tell(iova: bigint): void {
    const page = this.#pages.get(iova);
    if (!page) throw new Error(`the device asks for 0x${iova.toString(16)}`);
    const { lab, device } = this;
    const uaddr = BigInt(page.user);
    iotlbUpdate(lab.owner, device.fd, { iova, size: BigInt(PAGE), uaddr, perm: page.perm });
  }

  /** Tells of all pages that hold a range. */
  tellAll(iova: bigint, bytes: number): void {
    for (let page = pageOf(iova); page < iova + BigInt(bytes); page += BigInt(PAGE))
      this.tell(page);
  }

  /** The workers work and are answered, until nothing moves any more. */
  settle(): void {
    for (let left = 100_000; left > 0; left--) {
      for (let turns = this.random.below(3); turns > 0; turns--) this.device.file.runPending();
      if (this.random.below(2) === 0) this.listen();
      if (this.random.below(2) === 0 && this.answerOne()) continue;
      if (this.device.file.runPending()) continue;
      this.listen();
      if (!this.answerOne()) return;
    }
    throw new Error("it does not come to an end");
  }

  /** The guest's page lies elsewhere after this; where it was is nobody's. */
  async move(iova: bigint): Promise<void> {
    const page = this.#pages.get(iova);
    if (!page) throw new Error("nothing is mapped there");
    if (this.#moving.has(iova)) return;
    this.#moving.add(iova);
    await iotlbInvalidate(this.lab.owner, this.device.fd, { iova, size: BigInt(PAGE) });
    const { bytes } = this.lab.shared;
    const old = page.user;
    page.user = this.#page();
    bytes.copyWithin(page.user, old, old + PAGE);
    bytes.fill(POISON, old, old + PAGE);
    this.#spare.push(old);
    this.#moving.delete(iova);
  }

  /** Pages that the guest has, by address. */
  get pages(): bigint[] {
    return [...this.#pages.keys()];
  }
}

/** A driver's side of a split ring, under the guest's addresses. */
export class IovaRing {
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
  availIdx = 0;

  /** In memory that is mapped here: `base` on, with its areas where they may cross pages. */
  constructor(
    readonly iommu: Viommu,
    readonly num: number,
    base: bigint,
    isEventIdx = false,
  ) {
    const event = isEventIdx ? 2 : 0;
    const aligned = (at: bigint) => (at + 15n) & ~15n;
    this.desc = aligned(base);
    this.avail = this.desc + BigInt(16 * num);
    this.used = aligned(this.avail + BigInt(4 + 2 * num + event));
    this.bytes = Number(this.used - base) + 4 + 8 * num + event;
    iommu.map(base, this.bytes);
  }

  readonly bytes: number;

  setDesc(index: number, { addr, len, flags = 0, next = 0 }: IovaDesc): void {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, addr, true);
    view.setUint32(8, len, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
    this.iommu.write(this.desc + BigInt(16 * index), bytes);
  }

  publish(head: number): void {
    this.iommu.setU16(this.avail + 4n + BigInt(2 * (this.availIdx % this.num)), head);
    this.availIdx = (this.availIdx + 1) & 0xffff;
    this.iommu.setU16(this.avail + 2n, this.availIdx);
  }

  get usedIdx(): number {
    return this.iommu.u16(this.used + 2n);
  }

  usedEntry(index: number): { id: number; len: number } {
    const at = this.used + 4n + BigInt(8 * (index % this.num));
    return { id: this.iommu.u32(at), len: this.iommu.u32(at + 4n) };
  }

  /** As VHOST_SET_VRING_ADDR has it. */
  get addresses() {
    return { desc_user_addr: this.desc, avail_user_addr: this.avail, used_user_addr: this.used };
  }
}

export interface IovaDesc {
  readonly addr: bigint;
  readonly len: number;
  readonly flags?: number;
  readonly next?: number;
}
