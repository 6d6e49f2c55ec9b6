import { checkQueueSize } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { VIRTIO_BLK_ID_BYTES } from "../spec/virtio-blk.js";
import type { Claim, DeviceHost, DeviceParts, DeviceSpec } from "../vhost/device.js";
import { Doorbell } from "../vhost/notify.js";
import { checkImage } from "./blk-file.js";
import type { BlkSettings, SettledSource } from "./blk-make.js";
import { prepareUring } from "./blk-uring.js";
import type { BlkUringSettings } from "./blk-uring-make.js";

/** Where a disk's bytes are: exactly one of the three. */
export type BlkSource =
  /** In a file. A writable one has a whole number of 512-byte sectors. */
  | { file: string }
  /** In memory: so many bytes, zeroes at first. They are kept as long as what `blk` returns. */
  | { memoryBytes: number }
  /** Nowhere: reads and writes succeed and move nothing, for measuring. */
  | { nullBytes: number };

/** A disk. */
export type BlkOptions = BlkSource & {
  /** Refuse writes. Default false. */
  readOnly?: boolean;
  /** What VIRTIO_BLK_T_GET_ID says, at most 20 bytes. Default "vhost-wasm". */
  id?: string;
  /** Request queues, 1 to 32. Default 1. */
  queues?: number;
  /** Largest size of a queue, a power of two. Default 256. */
  queueSize?: number;
  /**
   * Who does a file's I/O. "inline": the device's worker, one request after the other. "uring": io
   * workers, threads of the same process, any number at a time, so that a request that takes long
   * holds up no other; then the driver gets no IN_ORDER. Default "inline".
   */
  io?: BlkIo;
};

/** Who does the I/O of a disk in a file. */
export type BlkIo = "inline" | "uring";

const SOURCES = ["file", "memoryBytes", "nullBytes"];
const OPTIONS = [...SOURCES, "readOnly", "id", "queues", "queueSize", "io"];

/** Throws EINVAL for what is none, or where there is no file. */
function checkIo(io: BlkIo, source: SettledSource): void {
  if (io === "inline" || (io === "uring" && "file" in source)) return;
  const message = 'io is "inline" or, for a disk in a file, "uring"';
  throw new VhostError("EINVAL", message, { io });
}

/**
 * Throws EINVAL unless exactly one source is named, and a size is one that a disk can have; ENOMEM
 * when there is no room for a disk in memory.
 */
function settleSource(options: BlkOptions): SettledSource {
  const { file, memoryBytes, nullBytes } = (options ?? {}) as Record<string, unknown>;
  const named = [file, memoryBytes, nullBytes].filter((value) => value !== undefined);
  if (named.length !== 1) {
    throw new VhostError("EINVAL", "name one of file, memoryBytes and nullBytes for a disk");
  }
  if (typeof file === "string") return { file };
  if (file !== undefined) throw new VhostError("EINVAL", "file is a path, a string", { file });
  const size = named[0];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size <= 0 || size % 512 !== 0) {
    throw new VhostError("EINVAL", "a disk's size is a positive multiple of 512 bytes", { size });
  }
  if (memoryBytes === undefined) return { nullBytes: size };
  try {
    return { memory: new SharedArrayBuffer(size) };
  } catch (error) {
    throw new VhostError("ENOMEM", `no room for a disk of ${size} bytes`, { size }, error);
  }
}

/**
 * A block device to open: `await process.open(blk({ file: "disk.img" }))`. Throws EINVAL for
 * options that make no disk; that a file is missing or taken shows when it is opened. virtio 1.3,
 * 5.2 Block Device.
 */
export function blk(options: BlkOptions): DeviceSpec<"blk"> {
  checkNames("a disk", options ?? {}, OPTIONS);
  const source = settleSource(options);
  const { readOnly = false, id = "vhost-wasm", queues = 1, queueSize = 256 } = options;
  const { io = "inline" } = options;
  checkIo(io, source);
  if (new TextEncoder().encode(id).length > VIRTIO_BLK_ID_BYTES) {
    throw new VhostError("EINVAL", `a disk's id has at most ${VIRTIO_BLK_ID_BYTES} bytes`, { id });
  }
  Doorbell.checkQueueCount(queues);
  checkQueueSize(queueSize);
  const name = `disk in memory ${++diskCount}`;
  const settings: BlkSettings = { source, readOnly, id, queues, queueSize };
  return {
    kind: "blk",
    module: new URL(io === "uring" ? "./blk-uring-make.js" : "./blk-make.js", import.meta.url).href,
    options: settings,
    claims: () => claimsOf(source, readOnly, name),
    ...(io === "uring" && { prepare: (host: DeviceHost) => prepare(settings, host) }),
  };
}

function prepare(settings: BlkSettings, host: DeviceHost): DeviceParts {
  const { file } = settings.source as { file: string };
  const { parts, close } = prepareUring(file, settings.readOnly, host);
  return { options: { ...settings, uring: parts } satisfies BlkUringSettings, close };
}

let diskCount = 0;

function claimsOf(source: SettledSource, readOnly: boolean, name: string): Claim[] {
  if ("nullBytes" in source) return [];
  const mode = readOnly ? "shared" : "exclusive";
  const remedy = "open both read-only";
  if ("memory" in source) return [{ key: name, label: name, mode, remedy }];
  const { key } = checkImage(source.file, readOnly);
  return [{ key, label: source.file, mode, remedy }];
}
