import { Command } from "commander";
import { rng } from "../devices/rng.js";
import { type ServeDeviceOptions, serveDevice, withServeOptions } from "./serve-device.js";
import { parseSize } from "./size.js";

interface ServeRngOptions extends ServeDeviceOptions {
  rate?: number;
}

const EXAMPLE = `
A VM's memory must be shared with us; for QEMU:
  -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem -m 1G
  -chardev socket,id=rng,path=<path> -device vhost-user-rng-pci,chardev=rng`;

/** `serve rng`: the system's random bytes, for a guest. */
export function rngCommand(): Command {
  const command = new Command("rng")
    .description("An entropy source: the operating system's random bytes.")
    .requiredOption("--socket <path>", "where to listen for the VM (required)")
    .option("--rate <bytes>", "bytes a second at most; 1K, say", parseSize(1));
  return withServeOptions(command).addHelpText("after", EXAMPLE).action(serveRng);
}

/** What is served, in a few words. */
export function describeRng(rate: number | undefined): string {
  return rate === undefined ? "random bytes" : `random bytes, ${rate} a second at most`;
}

async function serveRng(options: ServeRngOptions): Promise<void> {
  const { rate } = options;
  await serveDevice(options, rng(rate === undefined ? {} : { rate }), describeRng(rate));
}
