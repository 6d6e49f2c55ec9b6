// A vhost-net with a tap, as the data-path scenarios begin with, and what a driver sees of it.

import type { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import { wholeMemory } from "./descriptors.js";
import type { IoctlArg } from "./ioctl-arg.js";
import type { Proc } from "./proc.js";
import type { Ring } from "./ring.js";
import { PLAIN, WRITE } from "./vsock-rig.js";

/** Bytes of the virtio header before a frame. */
export const NET_HEADER_BYTES = 12;
/** Of a frame, Ethernet's own header. */
const ETHERNET_BYTES = 14;
const NUM = 8;

/** A frame of so many bytes that says `text`. */
export function frameOf(bytes: number, text: string): Uint8Array {
  const frame = new Uint8Array(bytes);
  frame.set(new TextEncoder().encode(text), ETHERNET_BYTES);
  return frame;
}

/** What a frame says. */
export const textOf = (frame: Uint8Array): string =>
  new TextDecoder().decode(frame.slice(ETHERNET_BYTES)).replace(/\0.*$/s, "");

/** A device, its rings, its tap. */
export class NetRig {
  readonly fd: number;
  readonly rx: Ring;
  readonly tx: Ring;
  readonly tap: { fd: number; file: NetBackendFile };
  /** Frames that came out of the tap. */
  readonly wire: Uint8Array[] = [];
  /** "OK", or what failed first. */
  readonly setup: string;

  constructor(
    readonly main: Proc,
    features = PLAIN,
  ) {
    this.fd = main.open("/dev/vhost-net");
    this.tap = main.openTap((frame) => this.wire.push(frame));
    const owner = this.ioctl("VHOST_SET_OWNER");
    const rings = main.mapVsockRings(NUM);
    this.rx = rings.rx;
    this.tx = rings.tx;
    const memory = main.task.mm?.memory as WebAssembly.Memory;
    const results = [
      owner,
      this.ioctl("VHOST_SET_FEATURES", features),
      this.ioctl("VHOST_SET_MEM_TABLE", { regions: [wholeMemory(memory)] }),
    ];
    for (const [index, ring] of [this.rx, this.tx].entries()) {
      results.push(this.ioctl("VHOST_SET_VRING_NUM", { index, num: NUM }));
      for (const what of ["ADDR", "KICK", "CALL", "ERR"]) {
        results.push(this.ioctl(`VHOST_SET_VRING_${what}`, { index, ring }));
      }
      results.push(this.setBackend(this.tap.fd, index));
    }
    this.setup = results.find((result) => result !== "OK") ?? "OK";
  }

  ioctl(name: string, arg?: IoctlArg): string {
    return this.main.ioctl(this.fd, name, arg);
  }

  setBackend(fd: number, index = 1): string {
    return this.ioctl("VHOST_NET_SET_BACKEND", { index, fd });
  }

  /** Header and frame in memory: where. */
  packet(frame: Uint8Array): number {
    const address = this.main.mapPages(NET_HEADER_BYTES + frame.length);
    new Uint8Array(this.tx.view.buffer).set(frame, address + NET_HEADER_BYTES);
    return address;
  }

  /** A frame in descriptor `index` of TX. */
  setGood(index: number, bytes = 60): void {
    const addr = this.packet(frameOf(bytes, "oracle-tx"));
    this.tx.setDesc(index, { addr, len: NET_HEADER_BYTES + bytes });
  }

  /** A buffer in descriptor `index` of RX, made available: where. */
  postRx(index: number, len: number, flags = WRITE): number {
    const addr = this.main.mapPages(len);
    this.rx.setDesc(index, { addr, len, flags });
    this.rx.publish(index);
    return addr;
  }

  /** A frame comes from the wire: bytes that were sent. */
  sendto(bytes: number, text = "oracle-rx"): number {
    const sent = this.tap.file.receive(frameOf(bytes, text)) ? bytes : 0;
    this.main.sleep(0); // what it brings about has happened
    return sent;
  }

  kick(ring = this.tx): void {
    this.main.kick(ring);
  }

  /** What can be seen of a ring, by the names that the records have. */
  seen(prefix: string, index: 0 | 1 = 1): Record<string, number | boolean> {
    const ring = index === 1 ? this.tx : this.rx;
    const base = { index, num: -1 };
    this.ioctl("VHOST_GET_VRING_BASE", base);
    return {
      [`${prefix}_used_idx`]: ring.usedIdx,
      [`${prefix}_last_avail`]: base.num,
      [`${prefix}_err_signalled`]: ring.err.read() > 0,
      [`${prefix}_call_signalled`]: ring.call.read() > 0,
    };
  }

  /** Kicks TX, and looks. */
  kickAndSee(prefix: string): Record<string, number | boolean> {
    this.kick();
    return this.seen(prefix);
  }
}

/** What scenarios of a wrong head do: kick twice, repair every slot, one more. */
export function kickRepairNext(rig: NetRig): Record<string, number | boolean | string> {
  const { tx, setup } = rig;
  tx.availIdx++;
  const seen = { setup, ...rig.kickAndSee("kick1"), ...rig.kickAndSee("kick2") };
  rig.setGood(2);
  for (let slot = 0; slot < tx.num; slot++) tx.setSlot(slot, 2);
  Object.assign(seen, rig.kickAndSee("repaired"));
  tx.publish(2);
  Object.assign(seen, rig.kickAndSee("next"));
  return { ...seen, first_used_id: tx.usedEntry(0).id };
}
