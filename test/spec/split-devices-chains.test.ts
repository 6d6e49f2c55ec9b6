// What a device does with the descriptors and buffers that it is given. virtio 1.3, 2.7.4.1,
// 2.7.5.1, 2.7.5.3.2.

import { describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_BYTES,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { blkHeader, blkPieces, blkSegments, pattern } from "../helpers/blk-raw.js";
import { bit, MODES, RawGuest, type RawPiece, VERSION_1 } from "../helpers/raw-guest.js";
import { KINDS, makePair, type Pair, pieces } from "../helpers/split-pair.js";

const DATA = pattern(1024, 3);

/** Cuts of `total` bytes: all at once, in runs of one size, the last one apart, with empty ones. */
function cuts(total: number): number[][] {
  const runs = (size: number) => {
    const full: number[] = Array(Math.floor(total / size)).fill(size);
    return total % size === 0 ? full : [...full, total % size];
  };
  const sizes = [total, 511, 512, 17, 7].filter((size) => size <= total && total / size < 180);
  const apart = [
    [total - 1, 1],
    [1, total - 1],
    [0, total, 0],
    [3, 0, total - 3],
  ];
  return [...sizes.map(runs), ...apart];
}

describe.each(MODES)("2.7.4.1 Message Framing: $run, $ring ring", (mode) => {
  test("2.7.4.1 device: answers the same however a request is cut up", async () => {
    const options = { ...mode, num: 512, memoryBytes: 16 << 20 };
    await using guest = await RawGuest.open(blk({ memoryBytes: 1 << 20, queueSize: 512 }), options);
    const { ring } = guest;
    const readable = Buffer.concat([blkHeader(VIRTIO_BLK_T_OUT, 7), DATA]);
    for (const sizes of cuts(readable.length)) {
      const parts: RawPiece[] = [];
      let at = 0;
      for (const size of sizes) {
        parts.push(readable.subarray(at, at + size));
        at += size;
      }
      const { status, length } = await blkPieces(ring, [...parts, 1]);
      expect({ status, length }, `out: ${sizes}`).toEqual({ status: 0, length: 1 });
      const read = await blkPieces(ring, [blkHeader(VIRTIO_BLK_T_IN, 7), DATA.length, 1]);
      expect(Buffer.compare(read.data, DATA), `out: ${sizes}`).toBe(0);
      await blkPieces(ring, [blkHeader(VIRTIO_BLK_T_OUT, 7), new Uint8Array(DATA.length), 1]);
    }
    await blkPieces(ring, [blkHeader(VIRTIO_BLK_T_OUT, 7), DATA, 1]);
    for (const sizes of cuts(DATA.length + 1)) {
      const { status, length, data } = await blkPieces(ring, [
        ...[...blkHeader(VIRTIO_BLK_T_IN, 7)].map((byte) => Uint8Array.of(byte)),
        ...sizes,
      ]);
      const told = { status, length };
      expect(told, `in: ${sizes}`).toEqual({ status: 0, length: DATA.length + 1 });
      expect(Buffer.compare(data, DATA), `in: ${sizes}`).toBe(0);
    }
    expect(guest.errors()).toEqual({});
  });
});

describe.each(MODES)("2.7.5.1 The Virtqueue Descriptor Table: $run, $ring ring", (mode) => {
  const features = VERSION_1 | bit(VIRTIO_F_INDIRECT_DESC);

  /** Readable parts of requests of every kind, good and bad. */
  const REQUESTS: readonly Uint8Array[][] = [
    [blkHeader(VIRTIO_BLK_T_IN, 0)],
    [blkHeader(VIRTIO_BLK_T_IN, 1 << 30)],
    [blkHeader(VIRTIO_BLK_T_IN, 0), DATA],
    [blkHeader(VIRTIO_BLK_T_OUT, 0), DATA],
    [blkHeader(VIRTIO_BLK_T_OUT, 1 << 30), DATA],
    [blkHeader(VIRTIO_BLK_T_FLUSH)],
    [blkHeader(VIRTIO_BLK_T_GET_ID), DATA],
    [blkHeader(VIRTIO_BLK_T_DISCARD), blkSegments([{ sector: 0, sectors: 2 }])],
    [blkHeader(VIRTIO_BLK_T_WRITE_ZEROES), blkSegments([{ sector: 0, sectors: 2 }])],
    [blkHeader(99), DATA],
    [DATA.slice(0, 9)],
  ];

  test("2.7.5.1 device: writes to no buffer that it is given to read", async () => {
    await using guest = await RawGuest.open(blk({ memoryBytes: 1 << 20 }), { ...mode, features });
    const { ring, shared } = guest;
    for (const [i, parts] of REQUESTS.entries()) {
      for (const room of [512, 0]) {
        const descs = [...parts, room, 1].map((piece) => guest.describe(piece as RawPiece));
        const spare = guest.put(new Uint8Array(64).fill(0x55));
        const read = () =>
          parts.map((part, at) => {
            const address = Number((descs[at]?.addr ?? 0n) - guest.at(0));
            return shared.bytes.slice(address, address + part.length);
          });
        ring.send(ring.link(descs));
        await ring.next();
        expect(read(), `request ${i}`).toEqual(parts.map((part) => Uint8Array.from(part)));
        expect(shared.bytes.slice(spare, spare + 64)).toEqual(new Uint8Array(64).fill(0x55));
        guest.takeWritten();
      }
    }
  });

  test("2.7.5.1 device: writes to no descriptor, in the ring or in a table", async () => {
    await using guest = await RawGuest.open(blk({ memoryBytes: 1 << 20 }), { ...mode, features });
    const { ring, shared } = guest;
    const ringDescs = () => shared.bytes.slice(ring.desc, ring.desc + ring.num * VIRTQ_DESC_BYTES);
    for (const parts of REQUESTS) {
      const descs = [...parts, 512, 1].map((piece) => guest.describe(piece as RawPiece));
      const { address, bytes } = ring.table(descs);
      const head = ring.link([{ addr: guest.at(address), len: bytes, flags: INDIRECT }]);
      const [ringBefore, tableBefore] = [ringDescs(), shared.bytes.slice(address, address + bytes)];
      ring.send(head);
      await ring.next();
      expect(ringDescs()).toEqual(ringBefore);
      expect(shared.bytes.slice(address, address + bytes)).toEqual(tableBefore);
      guest.takeWritten();
    }
  });
});

describe.each(KINDS)("the device's ring, %s", (kind) => {
  /** Pops one chain; its pieces in the order in which the device has them. */
  function pop({ f, device }: Pair) {
    expect(device.getDescs(1)).toBe(1);
    const { iovStart, outCount, inCount } = f.record("device", 0);
    const all = Array.from({ length: outCount + inCount }, (_, i) =>
      f.piece("device", iovStart + i),
    );
    return { out: all.slice(0, outCount), into: all.slice(outCount) };
  }

  test("2.7.5.1 device: writes to no descriptor, in the ring or in a table", () => {
    const pair = makePair(kind, { indirect: true, indirectCapacity: 4, eventIdx: true });
    const { f, device, driver, trace } = pair;
    const piece = { linear: f.data, bytes: 8 };
    f.setChain(0, 0, [piece, piece], [piece]);
    f.setChain(1, 3, [piece], []);
    f.setChain(2, 4, [], [piece]);
    expect(driver.addBufs(3)).toBe(3);
    driver.publish();
    f.writeDesc(5, { addr: 0n, len: 1, flags: NEXT, next: 5 }); // a loop
    f.writeDesc(6, { addr: 0n, len: 16, flags: 0 }); // nowhere
    f.offer(5);
    f.offer(6);
    const usedBytes = VIRTQ_RING_ELEMENTS + f.num * VIRTQ_USED_ELEM_BYTES + 2;
    const done = trace.during(() => {
      expect(device.getDescs(8)).toBe(3);
      device.addUsedN(3);
      device.publish();
      device.callNeeded();
      device.disableKick();
      device.enableKick();
    });
    expect(f.usedIdx).toBe(5);
    const toGuest = done.trace.stores(f.guestStart, f.end - f.guestStart);
    expect(toGuest.length).toBeGreaterThan(0);
    // The used ring is the only part that a device writes to.
    for (const { at, bytes } of toGuest) {
      expect(at).toBeGreaterThanOrEqual(f.used);
      expect(at + bytes).toBeLessThanOrEqual(f.used + usedBytes);
    }
  });

  test("2.7.5.3.2 device: does not mind WRITE on the descriptor of a table", () => {
    for (const flags of [0, WRITE]) {
      const { f, ...ring } = makePair(kind, { indirect: true });
      const [table, plain, out, into] = pieces(f, [32, 8, 8, 8]) as [Pc, Pc, Pc, Pc];
      f.writeDescAt(table.linear, { addr: f.guestOf(out.linear), len: 8, flags: NEXT, next: 1 });
      f.writeDescAt(table.linear + 16, { addr: f.guestOf(into.linear), len: 8, flags: WRITE });
      f.writeDesc(0, { addr: f.guestOf(plain.linear), len: 8, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: f.guestOf(table.linear), len: 32, flags: INDIRECT | flags });
      f.offer(0);
      expect(pop({ f, ...ring })).toEqual({ out: [plain, out], into: [into] });
    }
  });

  test("2.7.5.3.2 device: takes a table after any number of plain descriptors", () => {
    for (let plain = 0; plain < 8; plain++) {
      const { f, ...ring } = makePair(kind, { num: 8, indirect: true });
      const [table, ...bufs] = pieces(f, [48, ...Array(plain + 3).fill(8)]) as [Pc, ...Pc[]];
      const guest = (i: number) => f.guestOf(bufs[i]?.linear ?? 0);
      for (let i = 0; i < plain; i++) {
        // Two of them are writable where there are many: the table then is as well.
        f.writeDesc(i, { addr: guest(i), len: 8, flags: NEXT | kindOf(i, plain), next: i + 1 });
      }
      for (let i = 0; i < 3; i++) {
        const flags = (i < 2 ? NEXT : 0) | kindOf(plain + i, plain);
        const at = table.linear + i * VIRTQ_DESC_BYTES;
        f.writeDescAt(at, { addr: guest(plain + i), len: 8, flags, next: i + 1 });
      }
      f.writeDesc(plain, { addr: f.guestOf(table.linear), len: 48, flags: INDIRECT });
      f.offer(0);
      const { out, into } = pop({ f, ...ring });
      expect([...out, ...into], `${plain} before the table`).toEqual(bufs);
      expect(into).toHaveLength(bufs.filter((_, i) => kindOf(i, plain) === WRITE).length);
    }
  });
});

type Pc = ReturnType<typeof pieces>[number];

/** WRITE or 0: the last buffer is writable; with five before the table, its last two as well. */
function kindOf(index: number, plain: number): number {
  return index >= (plain < 5 ? plain + 2 : plain - 2) ? WRITE : 0;
}
