import { Command, Option } from "commander";
import { type BlkIo, type BlkOptions, type BlkSource, blk } from "../devices/blk.js";
import { VIRTIO_BLK_SECTOR_BYTES } from "../spec/virtio-blk.js";
import type { DeviceSpec } from "../vhost/device.js";
import { DOORBELL_QUEUES_MAX } from "../vhost/notify.js";
import { type ServeDeviceOptions, serveDevice, withServeOptions } from "./serve-device.js";
import { netCommand } from "./serve-net.js";
import { rngCommand } from "./serve-rng.js";
import { vsockCommand } from "./serve-vsock.js";
import { parseCount, parseSize } from "./size.js";

/** A VM of so many virtual processors, or of fewer, finds a queue for each. */
const QUEUES_DEFAULT = 16;
/** The largest queue that QEMU sets up. */
const QUEUE_SIZE = 1024;

interface ServeBlkOptions extends ServeDeviceOptions {
  image?: string;
  memory?: number;
  null?: number;
  readOnly?: true;
  queues: number;
  workers: number;
  id: string;
  io: BlkIo;
}

/** `serve`: devices for virtual machines. */
export function serveCommand(): Command {
  const command = new Command("serve").description(
    "Serve a device to virtual machines over vhost-user (Linux, with the package koffi).",
  );
  command.addCommand(blkCommand().copyInheritedSettings(command));
  command.addCommand(netCommand().copyInheritedSettings(command));
  command.addCommand(rngCommand().copyInheritedSettings(command));
  command.addCommand(vsockCommand().copyInheritedSettings(command));
  return command;
}

function blkCommand(): Command {
  const command = new Command("blk")
    .description("A disk: one of --image, --memory and --null says where its bytes are.")
    .requiredOption("--socket <path>", "where to listen (required)")
    .addOption(sourceOption("--image <file>", "a raw image, a whole number of 512-byte sectors"))
    .addOption(
      sourceOption("--memory <size>", "memory, zeroes at first; 64M, say").argParser(parseDisk),
    )
    .addOption(sourceOption("--null <size>", "nothing, for measuring").argParser(parseDisk))
    .option("--read-only", "refuse writes")
    .option(
      "--queues <n>",
      "request queues: a VM wants one for each vCPU",
      parseCount(1, DOORBELL_QUEUES_MAX),
      QUEUES_DEFAULT,
    )
    .option(
      "--workers <n>",
      "threads that have the queues in turn",
      parseCount(1, DOORBELL_QUEUES_MAX),
      1,
    )
    .option("--id <text>", "the disk's serial, up to 20 bytes", "vhost-wasm")
    .addOption(
      new Option("--io <way>", "let the worker do a file's I/O, or threads of their own beside it")
        .choices(["inline", "uring"])
        .default("inline"),
    );
  return withServeOptions(command, "open the image as the VM's user (needs root)")
    .addHelpText("after", EXAMPLE)
    .action(serveBlk);
}

const EXAMPLE = `
A VM's memory must be shared with us; for QEMU, in addition to what it is started with:
  -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem -m 1G
  -chardev socket,id=disk,path=<path>,reconnect-ms=500 -device vhost-user-blk-pci,chardev=disk`;

/** The size of a disk: whole sectors. */
const parseDisk = parseSize(VIRTIO_BLK_SECTOR_BYTES);

const SOURCES = ["image", "memory", "null"];

function sourceOption(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.conflicts(SOURCES.filter((name) => name !== option.attributeName()));
}

function sourceOf({ image, memory, null: empty }: ServeBlkOptions): BlkSource {
  if (image !== undefined) return { file: image };
  return memory === undefined ? { nullBytes: empty as number } : { memoryBytes: memory };
}

/** What is served, in a few words. */
function describeSource({ image, memory, null: empty, readOnly }: ServeBlkOptions): string {
  const bytes = memory ?? empty;
  const what = image ?? `${bytes} bytes of ${memory === undefined ? "nothing" : "memory"}`;
  return readOnly ? `${what}, read-only` : what;
}

function specOf(options: ServeBlkOptions): DeviceSpec<"blk"> {
  const { id, queues, readOnly = false, io } = options;
  const common = { id, queues, readOnly, queueSize: QUEUE_SIZE, io };
  return blk({ ...sourceOf(options), ...common } as BlkOptions);
}

function checkTogether(options: ServeBlkOptions, command: Command): void {
  if (!SOURCES.some((name) => name in options)) {
    command.error("error: name one of --image, --memory and --null");
  }
  if (options.asOwner && options.image === undefined) {
    command.error("error: --as-owner is about the file of --image");
  }
  if (options.workers > options.queues) {
    command.error("error: --workers is at most --queues");
  }
  if (options.io === "uring" && options.image === undefined) {
    command.error("error: --io uring is for the file of --image");
  }
  if (options.io === "uring" && options.asOwner) {
    command.error("error: --io uring opens the image as this program, not --as-owner");
  }
}

async function serveBlk(options: ServeBlkOptions, command: Command): Promise<void> {
  checkTogether(options, command);
  await serveDevice(options, specOf(options), describeSource(options));
}
