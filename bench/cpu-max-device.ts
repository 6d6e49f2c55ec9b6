// A device whose requests cost its worker CPU time: each answer is a checksum that takes a while.

import type { Virtqueue } from "#dist/vhost/virtqueue.js";

const ROUNDS = 40_000;

/** Depends on all rounds and on the seed, so that no round can be left out. */
export function churn(seed: number): number {
  let sum = seed | 0;
  for (let i = 0; i < ROUNDS; i++) sum = (Math.imul(sum, 0x9e37_79b1) + i) | 0;
  return sum >>> 0;
}

/** For `DeviceModule`: reads a seed, writes what `churn` makes of it. */
export function createDevice() {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  return {
    deviceId: 42,
    features: 0n,
    queueCount: 1,
    queueSizeMax: 64,
    readConfig: () => new Uint8Array(0),
    handleKick: (vq: Virtqueue) =>
      vq.drain(({ readable, writable }) => {
        readable.read(0, bytes);
        view.setUint32(0, churn(view.getUint32(0)));
        return writable.write(0, bytes);
      }),
  };
}
