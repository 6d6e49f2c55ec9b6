import { makeMemfd } from "../linux/memfd.js";
import { inflightRegionBytes } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_RING_PACKED } from "../spec/virtio-config.js";
import { VIRTQ_SIZE_MAX } from "../spec/virtio-ring.js";
import type { VhostDev } from "../vhost/dev.js";
import {
  checkFile,
  type FilePart,
  type MappedRegion,
  type MemoryTrust,
  RegionMap,
} from "./region-map.js";

/** Words of the area are read and written atomically: it must not begin between two. */
const AREA_ALIGN = 8n;
const END_OF_FILES = 1n << 63n;

/** An in-flight area, as the messages describe it. Section "Inflight description". */
export interface InflightDescription extends FilePart {
  queueCount: number;
  queueSize: number;
}

type Inflight = InflightDescription & { mapped: MappedRegion };
type Log = FilePart & { mapped: MappedRegion };

/** Throws EINVAL for a part of a file that can't be mapped, whatever the file is. */
function checkPart({ offset, sizeBytes }: FilePart, what: string): void {
  if (sizeBytes > 0n && offset + sizeBytes <= END_OF_FILES) return;
  throw new VhostError("EINVAL", `${what} is empty or wraps`, { offset, sizeBytes });
}

/**
 * What a front-end has recorded in memory that it shares: the pages that the device writes (for a
 * migration), and what is in flight (for a back-end after us). Changes only while no ring runs.
 * Sections "Migration" and "Inflight I/O tracking". Main thread.
 */
export class Records {
  readonly #dev: VhostDev;
  readonly #trust: MemoryTrust;
  readonly #map: RegionMap;
  #log: Log | undefined;
  #inflight: Inflight | undefined;
  /** VHOST_F_LOG_ALL was accepted. Without a log, too, the rings run: others do it like that. */
  isLogging = false;

  constructor(dev: VhostDev, trust: MemoryTrust) {
    this.#dev = dev;
    this.#trust = trust;
    this.#map = RegionMap.of(dev.sharedMemory);
  }

  #regionBytes(queueSize: number): number {
    const isPacked = hasFeature(this.#dev.features, VIRTIO_F_RING_PACKED);
    return inflightRegionBytes(queueSize, isPacked);
  }

  /** Throws EINVAL for a log that can't be. */
  checkLog(part: FilePart, fd: number): void {
    checkPart(part, "the dirty log");
    checkFile(fd, part, this.#trust);
  }

  /** Takes the first of `fds`, which `checkLog` found good. Rejects with ENOMEM: there is none. */
  async replaceLog(part: FilePart, fds: number[]): Promise<void> {
    const old = this.#log;
    this.#log = undefined;
    await old?.mapped.release();
    const mapped = await this.#map.map(fds[0] as number, part);
    fds.shift();
    this.#log = { ...part, mapped };
  }

  #checkQueues({ queueCount, queueSize }: Pick<Inflight, "queueCount" | "queueSize">): void {
    const most = this.#dev.info.queueCount;
    const isCount = queueCount >= 1 && queueCount <= most;
    if (isCount && queueSize >= 1 && queueSize <= VIRTQ_SIZE_MAX) return;
    const message = `an in-flight area is for 1 to ${most} queues of 1 to ${VIRTQ_SIZE_MAX}`;
    throw new VhostError("EINVAL", message, { queueCount, queueSize });
  }

  /** A new area: what it is, and its descriptor, the caller's to close. Throws EINVAL, EMFILE. */
  make(queues: Pick<Inflight, "queueCount" | "queueSize">): {
    description: InflightDescription;
    fd: number;
  } {
    this.#checkQueues(queues);
    const bytes = this.#regionBytes(queues.queueSize) * queues.queueCount;
    const fd = makeMemfd("vhost-wasm-inflight", bytes);
    return { description: { ...queues, offset: 0n, sizeBytes: BigInt(bytes) }, fd };
  }

  /** Throws EINVAL for an area that can't be. */
  checkInflight(area: InflightDescription, fd: number): void {
    checkPart(area, "the in-flight area");
    this.#checkQueues(area);
    const needed = this.#regionBytes(area.queueSize) * area.queueCount;
    if (area.offset % AREA_ALIGN !== 0n || area.sizeBytes < BigInt(needed)) {
      throw new VhostError("EINVAL", "the in-flight area is too small or not aligned to 8", {
        ...area,
        needed,
      });
    }
    checkFile(fd, area, this.#trust);
  }

  /** Takes the first of `fds`, which `checkInflight` found good. Rejects with ENOMEM. */
  async replaceInflight(area: InflightDescription, fds: number[]): Promise<void> {
    await this.forgetInflight();
    const mapped = await this.#map.map(fds[0] as number, area);
    fds.shift();
    this.#inflight = { ...area, mapped };
  }

  /** Nothing is recorded as in flight any more. */
  async forgetInflight(): Promise<void> {
    const old = this.#inflight;
    this.#inflight = undefined;
    await old?.mapped.release();
  }

  /** Linear address of a ring's region, if it has one. Throws EINVAL for a ring too large for it. */
  #regionOf(index: number): number | undefined {
    const area = this.#inflight;
    if (!area || index >= area.queueCount) return undefined;
    const num = this.#dev.vringNum(index);
    const bytes = this.#regionBytes(area.queueSize);
    if (num <= area.queueSize && BigInt((index + 1) * bytes) <= area.sizeBytes) {
      return area.mapped.linearAddress + index * bytes;
    }
    throw new VhostError("EINVAL", "the ring is larger than the in-flight area is for", { num });
  }

  /** Tells the device where the log is, for all rings that start next. */
  applyLog(): void {
    const log = this.isLogging ? this.#log : undefined;
    const place = log && { address: log.mapped.linearAddress, bytes: Number(log.sizeBytes) };
    this.#dev.setLog(place);
  }

  /** Tells the device where to record what is in flight in a ring. Throws EINVAL. */
  applyInflight(index: number): void {
    this.#dev.setVringInflight(index, undefined); // also when the next line throws
    this.#dev.setVringInflight(index, this.#regionOf(index));
  }

  /** Gives all of it back. */
  async clear(): Promise<void> {
    const old = this.#log;
    this.#log = undefined;
    this.isLogging = false;
    await Promise.all([old?.mapped.release(), this.forgetInflight()]);
  }
}
