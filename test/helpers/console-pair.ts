// A console device with its driver, and what a test says to either.

import { once } from "node:events";
import type { Duplex } from "node:stream";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { type ConsoleOptions, Kernel, console as makeConsole } from "#dist/index.js";
import type { OpenOptions } from "#dist/loopback.js";
import { keepPumping } from "./pump.js";

export async function openConsole(
  mode: OpenOptions,
  options: ConsoleOptions = {},
  probeOptions: ProbeOptions = {},
) {
  const owner = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const host = makeConsole(options);
  const device = await owner.open(host, mode);
  const guest = await device.driver(probeOptions);
  const stopPump = keepPumping(device, mode);
  return {
    owner,
    host,
    device,
    guest,
    [Symbol.asyncDispose]: async () => {
      await device.close();
      await stopPump();
      await owner.exit();
    },
  };
}

/** The next `length` bytes of a stream. */
export async function take(stream: Duplex, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let left = length;
  while (left > 0) {
    const chunk = stream.read(Math.min(left, Math.max(1, stream.readableLength)));
    if (chunk === null) {
      await once(stream, "readable");
      continue;
    }
    chunks.push(chunk);
    left -= chunk.length;
  }
  return Buffer.concat(chunks);
}
