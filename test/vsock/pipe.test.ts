// The way of packets between the device's worker and the opening thread.

import { describe, expect, test } from "vitest";
import {
  VSOCK_PACKET_BYTES_MAX,
  VSOCK_PIPE_PACKETS_MAX,
  VsockPipe,
} from "#dist/devices/vsock-pipe.js";
import { Random } from "../fuzz/random.js";

/** Writes one packet of that length, which tells its number at both ends. */
function write(pipe: VsockPipe, number: number, bytes: number): void {
  const place = pipe.begin();
  expect(place.length).toBe(VSOCK_PACKET_BYTES_MAX);
  place[0] = place[bytes - 1] = number & 0xff;
  pipe.end(number, bytes);
}

describe("a pipe of packets", () => {
  test("many times round: each packet whole, in order, with its generation", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new Random(seed);
      const writer = new VsockPipe();
      const reader = new VsockPipe(writer.buffer);
      const lengths: number[] = [];
      let read = 0;
      for (let i = 0; i < 3000; i++) {
        const isLarge = random.once(3);
        if (random.once(2) && writer.room > 0) {
          const bytes = random.between(44, isLarge ? VSOCK_PACKET_BYTES_MAX : 200);
          write(writer, lengths.push(bytes) - 1, bytes);
        }
        const packet = random.once(2) ? reader.peek() : undefined;
        if (!packet) continue;
        const [first, last] = [packet.bytes[0], packet.bytes.at(-1)];
        const found = [packet.generation, packet.bytes.length, first, last];
        const expected = [read, lengths[read], read & 0xff, read & 0xff];
        if (String(found) !== String(expected)) throw new Error(`seed ${seed}: ${found}`);
        reader.drop();
        read++;
      }
      expect(lengths.length - read).toBe(reader.packets);
      expect(read).toBeGreaterThan(1000);
    }
  });

  test("its room is never more than there is, in bytes and in packets", () => {
    const large = new VsockPipe();
    for (; large.room > 0; ) {
      const { room } = large;
      for (let i = 0; i < room; i++) write(large, i, VSOCK_PACKET_BYTES_MAX);
    }
    expect(large.packets * VSOCK_PACKET_BYTES_MAX).toBeLessThanOrEqual(1 << 20);
    expect(large.packets).toBeGreaterThanOrEqual(13);
    const small = new VsockPipe();
    while (small.room > 0) write(small, 1, 44);
    expect(small.packets).toBe(VSOCK_PIPE_PACKETS_MAX);
    expect(small.peek()?.bytes).toHaveLength(44);
  });
});
