import { BlkDriver } from "./blk.js";
import { ConsoleDriver } from "./console.js";
import { CustomDriver } from "./custom.js";
import { NetDriver } from "./net.js";
import type { ProbeOptions } from "./probe.js";
import { RngDriver } from "./rng.js";
import type { Transport } from "./transport.js";
import { VsockDriver } from "./vsock.js";

/** The driver for each kind of device. */
export interface Drivers {
  blk: BlkDriver;
  console: ConsoleDriver;
  custom: CustomDriver;
  net: NetDriver;
  rng: RngDriver;
  vsock: VsockDriver;
}

const probes: {
  [Kind in keyof Drivers]: (t: Transport, o: ProbeOptions) => Promise<Drivers[Kind]>;
} = {
  blk: BlkDriver.probe,
  console: ConsoleDriver.probe,
  custom: CustomDriver.probe,
  net: NetDriver.probe,
  rng: RngDriver.probe,
  vsock: VsockDriver.probe,
};

/** Finds the driver for a device and brings the device up. Linux: virtio_dev_probe(). */
export function probeDriver<Kind extends keyof Drivers>(
  kind: Kind,
  transport: Transport,
  options: ProbeOptions,
): Promise<Drivers[Kind]> {
  return probes[kind](transport, options);
}
