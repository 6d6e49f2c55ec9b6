// A vhost-net by ioctl whose worker is a thread: frames either way, while its rings get and lose
// what they work for.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { doPrlimit } from "#dist/kernel/rlimit.js";
import { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import { threadCount, until } from "../../helpers/devices.js";
import { closeProgram, IoctlProgram } from "../../helpers/ioctl-program.js";

const KINDS = ["wasm", "ts"] as const;

describe.each(KINDS)("vhost-net, %s", (ring) => {
  const HEADER_BYTES = 12;
  const FRAME_BYTES = 60;

  const frameOf = (number: number) => {
    const frame = new Uint8Array(FRAME_BYTES);
    new DataView(frame.buffer).setUint32(20, number);
    return frame;
  };
  const numberOf = (frame: Uint8Array) =>
    new DataView(frame.buffer, frame.byteOffset).getUint32(20);

  async function withTap() {
    const threads = threadCount();
    const program = await new IoctlProgram({ kind: "net", ring }).setUp();
    const wire: number[] = [];
    const tap = new NetBackendFile(
      () => {},
      (frame) => wire.push(numberOf(frame)),
    );
    const fd = program.install(tap);
    const attach = (index: number, is = true) =>
      program.ioctl("VHOST_NET_SET_BACKEND", { index, fd: is ? fd : -1 });
    await attach(0);
    await attach(1);
    return { program, tap, wire, attach, end: () => closeProgram(program, threads) };
  }

  test("what is there when a ring gets its back-end is looked at without a kick", async () => {
    const { program, wire, attach, end } = await withTap();
    const { tx } = program;
    const at = program.shared.allocGuest(128);
    program.shared.bytes.set(frameOf(7), at + HEADER_BYTES);
    for (let round = 0; round < 10; round++) {
      await attach(1, false);
      tx.setDesc(round % tx.num, { addr: at, len: HEADER_BYTES + FRAME_BYTES });
      tx.publish(round % tx.num);
      await attach(1);
      await until(() => wire.length === round + 1);
    }
    await end();
  });

  test("frames go to the back-end that their ring had when they were taken", async () => {
    const { program, end } = await withTap();
    const { tx } = program;
    const at = program.shared.allocGuest(tx.num * 128);
    const wires: number[][] = [[], []];
    const fds = wires.map((wire) => {
      return program.install(
        new NetBackendFile(
          () => {},
          (frame) => wire.push(numberOf(frame)),
        ),
      );
    });
    let sent = 0;
    const isFew = () => wires.some((wire) => wire.length <= 50);
    for (let round = 0; round < 60 || isFew(); round++) {
      const fd = round % 3 === 2 ? -1 : fds[round % 2];
      await program.ioctl("VHOST_NET_SET_BACKEND", { index: 1, fd: fd ?? -1 });
      const out = () => wires.flat().length;
      if (fd === -1) expect(out()).toBe(tx.usedIdx); // all that was taken has gone out
      for (let turn = 0; turn < 3; turn++, await nextTurn()) {
        for (; ((sent - tx.usedIdx) & 0xffff) < tx.num; sent++) {
          const head = sent % tx.num;
          program.shared.bytes.set(frameOf(sent), at + head * 128 + HEADER_BYTES);
          tx.setDesc(head, { addr: at + head * 128, len: HEADER_BYTES + FRAME_BYTES });
          tx.publish(head);
        }
        tx.kick.signal();
      }
    }
    await program.ioctl("VHOST_NET_SET_BACKEND", { index: 1, fd: -1 });
    const all = wires.flat().sort((one, other) => one - other);
    expect(all).toEqual(Array.from({ length: tx.usedIdx }, (_, n) => n));
    for (const wire of wires) {
      expect(wire).toEqual([...wire].sort((one, other) => one - other));
    }
    await end();
  });

  test("its owner may be another at once, at the limit of what the first may have", async () => {
    const { program, end } = await withTap();
    doPrlimit(program.task, program.task, "NPROC", { cur: 2, max: 2 });
    for (let round = 0; round < 5; round++) {
      await program.ioctl("VHOST_RESET_OWNER");
      await program.ioctl("VHOST_SET_OWNER");
    }
    await end();
  });

  test("the guest's frames go out, in order, also while their ring is let go", async () => {
    const { program, wire, attach, end } = await withTap();
    const { tx } = program;
    const buffers = program.shared.allocGuest(tx.num * 128, 4096);
    let sent = 0;
    const send = () => {
      for (; ((sent - tx.usedIdx) & 0xffff) < tx.num; sent++) {
        const at = buffers + (sent % tx.num) * 128;
        program.shared.bytes.set(frameOf(sent), at + HEADER_BYTES);
        tx.setDesc(sent % tx.num, { addr: at, len: HEADER_BYTES + FRAME_BYTES });
        tx.publish(sent % tx.num);
      }
      tx.kick.signal();
    };
    for (let round = 0; round < 200; round++) {
      send();
      if (round % 10 === 5) await attach(1, false);
      if (round % 10 === 6) await attach(1);
      await nextTurn();
    }
    await attach(1);
    tx.kick.signal();
    await until(() => tx.usedIdx === (sent & 0xffff));
    await until(() => wire.length === sent);
    expect(wire).toEqual(Array.from({ length: sent }, (_, i) => i));
    await end();
  });

  test("frames for the guest wait at the tap while it has no ring, and come in order", async () => {
    const { program, tap, attach, end } = await withTap();
    const { rx } = program;
    const buffers = program.shared.allocGuest(rx.num * 128, 4096);
    const got: number[] = [];
    const post = (count: number) => {
      for (; count > 0; count--) {
        const head = rx.availIdx % rx.num;
        rx.setDesc(head, { addr: buffers + head * 128, len: 128, flags: 2 });
        rx.publish(head);
      }
      rx.kick.signal();
    };
    const take = () => {
      for (let fresh = (rx.usedIdx - got.length) & 0xffff; fresh > 0; fresh--) {
        const { id, len } = rx.usedEntry(got.length);
        expect(len).toBe(HEADER_BYTES + FRAME_BYTES);
        const at = buffers + id * 128 + HEADER_BYTES;
        got.push(numberOf(program.shared.bytes.subarray(at, at + FRAME_BYTES)));
        post(1);
      }
    };
    post(rx.num);
    let sent = 0;
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 10; i++) if (tap.receive(frameOf(sent))) sent++;
      if (round % 10 === 5) await attach(0, false);
      if (round % 10 === 6) await attach(0);
      take();
      await nextTurn();
    }
    await attach(0);
    await until(() => {
      take();
      return got.length === sent;
    });
    expect(got).toEqual(Array.from({ length: sent }, (_, i) => i));
    await end();
  });
});
