import { Command, Option } from "commander";
import { type BlkIo, type BlkOptions, type BlkSource, blk } from "../devices/blk.js";
import { VIRTIO_BLK_SECTOR_BYTES } from "../spec/virtio-blk.js";
import type { DeviceSpec } from "../vhost/device.js";
import { DOORBELL_QUEUES_MAX } from "../vhost/notify.js";
import { type ServeDeviceOptions, serveDevice, withServeOptions } from "./serve-device.js";
import { parseCount, parseSize } from "./size.js";

/** A VM of so many virtual processors, or of fewer, finds a queue for each. */
export const BLK_QUEUES_DEFAULT = 16;
/** A disk's serial, unless told. */
export const BLK_ID_DEFAULT = "vhost-wasm";
/** The largest queue that QEMU sets up. */
const QUEUE_SIZE = 1024;

/** What a disk is served as. */
export interface ServedBlk {
  image?: string | undefined;
  memory?: number | undefined;
  null?: number | undefined;
  readOnly?: boolean | undefined;
  queues: number;
  /** Threads that have the queues in turn. */
  workers: number;
  id: string;
  io: BlkIo;
  asOwner?: boolean | undefined;
}

type ServeBlkOptions = ServeDeviceOptions & ServedBlk;

/** `serve blk`: a disk. */
export function blkCommand(): Command {
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
      BLK_QUEUES_DEFAULT,
    )
    .option(
      "--workers <n>",
      "threads that have the queues in turn",
      parseCount(1, DOORBELL_QUEUES_MAX),
      1,
    )
    .option("--id <text>", "the disk's serial, up to 20 bytes", BLK_ID_DEFAULT)
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

const SOURCES = ["image", "memory", "null"] as const;

function sourceOption(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.conflicts(SOURCES.filter((name) => name !== option.attributeName()) as string[]);
}

function sourceOf({ image, memory, null: empty }: ServedBlk): BlkSource {
  if (image !== undefined) return { file: image };
  return memory === undefined ? { nullBytes: empty as number } : { memoryBytes: memory };
}

/** What is served, in a few words. */
export function describeBlk({ image, memory, null: empty, readOnly }: ServedBlk): string {
  const bytes = memory ?? empty;
  const what = image ?? `${bytes} bytes of ${memory === undefined ? "nothing" : "memory"}`;
  return readOnly ? `${what}, read-only` : what;
}

/** The device. Throws EINVAL. */
export function blkOf(options: ServedBlk): DeviceSpec<"blk"> {
  const { id, queues, readOnly = false, io } = options;
  const common = { id, queues, readOnly, queueSize: QUEUE_SIZE, io };
  return blk({ ...sourceOf(options), ...common } as BlkOptions);
}

/** What is wrong with options that are each right. `flag`: what an option is called. */
export function blkFault(options: ServedBlk, flag: (name: string) => string): string | undefined {
  const named = SOURCES.filter((name) => options[name] !== undefined);
  const { io, asOwner, image, workers, queues } = options;
  const isUring = io === "uring";
  const [first, ...others] = SOURCES.map(flag);
  if (named.length !== 1) return `name one of ${first}, ${others.join(" and ")}`;
  if (workers > queues) return `${flag("workers")} is at most ${flag("queues")}`;
  if (asOwner && image === undefined) {
    return `${flag("asOwner")} is about the file of ${flag("image")}`;
  }
  if (isUring && image === undefined) return `io "uring" is for the file of ${flag("image")}`;
  if (isUring && asOwner) {
    return `io "uring" opens the image as this program, not ${flag("asOwner")}`;
  }
  return undefined;
}

const flagOf = (name: string) => `--${name === "asOwner" ? "as-owner" : name}`;

async function serveBlk(options: ServeBlkOptions, command: Command): Promise<void> {
  const fault = blkFault(options, flagOf);
  if (fault !== undefined) command.error(`error: ${fault}`);
  await serveDevice(options, blkOf(options), describeBlk(options));
}
