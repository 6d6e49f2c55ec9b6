// A process with an io_uring, real io workers, and what an application does with it.

import { openSync } from "node:fs";
import { HostFile } from "#dist/io-uring/host-file.js";
import { IoUring, type IoUringOptions } from "#dist/io-uring/io-uring.js";
import { exitIoWq } from "#dist/io-uring/tctx.js";
import { type Files, fdInstall } from "#dist/kernel/files.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { Mm } from "#dist/kernel/mm.js";
import type { SpawnOptions } from "#dist/kernel/spawn.js";
import type { Task } from "#dist/kernel/task.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import {
  CQE_RES,
  CQE_USER_DATA,
  IO_URING_CQE_BYTES,
  IOU_TABLE,
  SQE_ADDR,
  SQE_FD,
  SQE_FLAGS,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "#dist/spec/io-uring.js";

/** An SQE's fields; what is left out is 0. */
export interface SqeFields {
  op: number;
  userData: number;
  flags?: number;
  fd?: number;
  off?: bigint | number;
  addr?: bigint | number;
  len?: number;
  opFlags?: number;
}

/** A process of user 1000 in a memory of 1 MiB, with one ring. */
export class IouOwner implements AsyncDisposable {
  readonly kernel = new Kernel();
  readonly task: Task;
  readonly shared: SharedMemory;
  readonly ring: IoUring;

  constructor(options: Partial<IoUringOptions> = {}, spawn: SpawnOptions = {}) {
    this.task = this.kernel.spawn({ uid: 1000, memoryBytes: 1 << 20, ...spawn });
    this.shared = SharedMemory.of((this.task.mm as Mm).memory);
    this.ring = new IoUring(this.kernel, this.task, { entries: 8, ...options });
  }

  /** Opens a file of the host's in the owner's table. */
  open(path: string, flags: string | number = "r+"): number {
    return fdInstall(this.task.files as Files, new HostFile(openSync(path, flags)));
  }

  /** A buffer in the owner's memory, with `content` or so many zeros. */
  buffer(content: Uint8Array | number): { address: number; bytes: Uint8Array } {
    const length = typeof content === "number" ? content : content.length;
    const address = this.shared.allocGuest(length);
    if (typeof content !== "number") this.shared.bytes.set(content, address);
    return { address, bytes: this.shared.bytes.subarray(address, address + length) };
  }

  /** Fills in SQEs and submits them, without entering. */
  prepare(...list: SqeFields[]): void {
    const { view } = this.shared;
    for (const fields of list) {
      const sqe = this.ring.application.getSqe();
      if (sqe === 0) throw new Error("the SQ is full");
      view.setUint8(sqe + SQE_OPCODE, fields.op);
      view.setUint8(sqe + SQE_FLAGS, fields.flags ?? 0);
      view.setInt32(sqe + SQE_FD, fields.fd ?? 0, true);
      view.setBigUint64(sqe + SQE_OFF, BigInt.asUintN(64, BigInt(fields.off ?? 0)), true);
      view.setBigUint64(sqe + SQE_ADDR, BigInt(fields.addr ?? 0), true);
      view.setUint32(sqe + SQE_LEN, fields.len ?? 0, true);
      view.setUint32(sqe + SQE_OP_FLAGS, fields.opFlags ?? 0, true);
      view.setBigUint64(sqe + SQE_USER_DATA, BigInt(fields.userData), true);
    }
    this.ring.application.submit();
  }

  /** The CQEs that are there: user data and result. */
  reap(): [userData: number, res: number][] {
    const { application, layout } = this.ring;
    const { view } = this.shared;
    const count = application.peekCqes(128);
    const table = view.getUint32(layout.application + IOU_TABLE, true);
    const cqes = Array.from({ length: count }, (_, i): [number, number] => {
      const cqe = table + i * IO_URING_CQE_BYTES;
      const userData = Number(view.getBigUint64(cqe + CQE_USER_DATA, true));
      return [userData, view.getInt32(cqe + CQE_RES, true)];
    });
    application.advance(count);
    return cqes;
  }

  /** Submits, enters, waits for a CQE each, and takes them. */
  async submit(...list: SqeFields[]): Promise<[userData: number, res: number][]> {
    this.prepare(...list);
    this.ring.enter();
    await this.ring.getEvents(list.length);
    return this.reap();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await exitIoWq(this.task);
    await this.ring.close();
    this.kernel.exitGroup(this.task, 0);
  }
}
