// A switch with a TAP, and frames that nobody but a test has.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { NetDriver } from "#dist/driver/net.js";
import { Kernel, net, Switch, type SwitchPortOptions, type TapEvent } from "#dist/index.js";
import { frameOf, station } from "./net-frames.js";
import { ETHERTYPE, type PacketSocket, tapName } from "./taps.js";

/** A switch with a TAP, and a guest in a process of its own. */
export async function openTapLan(
  name = tapName(),
  {
    mac = station(2),
    mtu = 1500,
    port = {},
    at = {},
  }: { mac?: string; mtu?: number; port?: SwitchPortOptions; at?: SwitchPortOptions } = {},
) {
  const lan = new Switch();
  const events: TapEvent[] = [];
  const tapPort = lan.port(at);
  const tap = tapPort.tap(name, { onEvent: (event) => events.push(event) });
  const process = new Kernel().spawn({ memoryBytes: 16 << 20 });
  const guestPort = lan.port(port);
  const device = await process.open(net({ switch: guestPort, mac, mtu }));
  const driver = await device.driver();
  return {
    ...{ lan, name, tap, tapPort, events, process, device, driver, guestPort },
    [Symbol.asyncDispose]: async () => {
      await process.exit();
      await tap.close();
      lan.close();
    },
  };
}

/** A frame of the type that the host is silent in. */
export function experiment(to: string, from: string, payload: Uint8Array): Buffer {
  const frame = Buffer.concat([frameOf(to, from, 0).subarray(0, 14), payload]);
  frame.writeUInt16BE(ETHERTYPE, 12);
  return frame;
}

/** Frames of that type alone: the host says other things, too. */
export function collect(driver: NetDriver): Buffer[] {
  const got: Buffer[] = [];
  driver.onPacket = (frame) => {
    const copy = Buffer.from(frame);
    if (copy.readUInt16BE(12) === ETHERTYPE) got.push(copy);
  };
  return got;
}

export async function sendAll(driver: NetDriver, frames: readonly Uint8Array[]): Promise<void> {
  for (const frame of frames) {
    while (driver.room === 0) await sleep(0);
    driver.send(frame).catch(() => {});
  }
}

export async function receiveAll(socket: PacketSocket, count: number): Promise<Buffer[]> {
  const got: Buffer[] = [];
  const take = () => {
    for (let frame = socket.receive(); frame; frame = socket.receive()) got.push(frame);
    return got.length;
  };
  await expect.poll(take).toBe(count);
  return got;
}
