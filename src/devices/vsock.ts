import { resolve } from "node:path";
import { checkSocketPlace } from "../linux/makeable.js";
import { checkQueueSize } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { VMADDR_ANY, VMADDR_CID_GUEST_MIN, VMADDR_CID_HOST } from "../spec/virtio-vsock.js";
import { pathClaim } from "../vhost/claims.js";
import type { Claim, DeviceHost, DeviceParts, DeviceSpec, VirtioDevice } from "../vhost/device.js";
import { type ConnectOptions, type VsockListener, VsockSockets } from "../vsock/sockets.js";
import type { VsockStream } from "../vsock/stream.js";
import { VsockDevice } from "./vsock-device.js";
import { VsockHost } from "./vsock-host.js";
import { VsockLink, type VsockLinkBuffers } from "./vsock-link.js";
import { checkUnixPath, VsockUnix } from "./vsock-unix.js";

/** A socket device. */
export interface VsockOptions {
  /** The guest's address: 3 to 4294967294. One device at a time has it. */
  cid: number;
  /** Bytes that each of the host's streams keeps of what was not read yet. Default 256 KiB. */
  bufferBytes?: number;
  /** Connections at a time. Default 1024. */
  connectionsMax?: number;
  /** Largest size of a queue, a power of two. Default 256. */
  queueSize?: number;
  /** Also Unix sockets for the guest's ports, at this path and beside it: see `VsockUnix`. */
  unix?: string;
}

const OPTIONS = ["cid", "bufferBytes", "connectionsMax", "queueSize", "unix"];
const BUFFER_BYTES_DEFAULT = 1 << 18;
const CONNECTIONS_DEFAULT = 1024;

/** What its device is made with, in the worker's thread. */
export interface VsockSettings {
  queueSize: number;
  /** The way to the opening thread: itself, where the device is in that. */
  link: VsockLinkBuffers | VsockLink;
}

const closedError = () => new VhostError("ENODEV", "no guest has the device: open it first");

/**
 * A socket device to open, and the host's sockets to its guest. They are in the thread that made
 * it; listeners stay from one opening to the next, streams end with the device. virtio 1.3, 5.10
 * Socket Device.
 */
export class Vsock implements DeviceSpec<"vsock"> {
  readonly kind = "vsock";
  readonly module = import.meta.url;
  readonly options: Pick<VsockSettings, "queueSize">;
  /** The guest's address. */
  readonly cid: number;
  readonly #sockets: VsockSockets;
  readonly #connectionsMax: number;
  readonly #unixPath: string | undefined;
  #host: VsockHost | undefined;

  /** See `vsock`. */
  constructor(options: VsockOptions) {
    const { cid, queueSize = 256, connectionsMax = CONNECTIONS_DEFAULT, unix } = options;
    this.options = { queueSize };
    this.cid = cid;
    this.#connectionsMax = connectionsMax;
    this.#unixPath = unix === undefined ? undefined : resolve(unix);
    this.#sockets = new VsockSockets(
      {
        localCid: VMADDR_CID_HOST,
        peerCid: cid,
        bufferBytes: options.bufferBytes ?? BUFFER_BYTES_DEFAULT,
        connectionsMax,
      },
      () => this.#host?.flushSoon(),
    );
    this.#sockets.close(closedError());
  }

  /**
   * For who opens it: a CID is one guest's. Throws ENOENT, EACCES, EADDRINUSE where the Unix socket
   * can't be made.
   */
  claims(): Claim[] {
    const label = `CID ${this.cid}`;
    const claims: Claim[] = [{ key: `vsock:${this.cid}`, label, mode: "exclusive" }];
    if (this.#unixPath === undefined) return claims;
    checkSocketPlace(this.#unixPath);
    return [...claims, pathClaim(this.#unixPath)];
  }

  /** For who opens it. Throws what `VsockUnix` does. */
  prepare(deviceHost: DeviceHost): DeviceParts {
    const path = this.#unixPath;
    const unix = path ? new VsockUnix(path, this.#sockets, this.#connectionsMax) : undefined;
    const host = new VsockHost(this.#sockets, deviceHost, this.cid);
    this.#host = host;
    return {
      options: { ...this.options, link: host.buffers } satisfies VsockSettings,
      close: async () => {
        this.#host = undefined;
        unix?.close();
        host.close();
      },
    };
  }

  /**
   * Connects to a port of the guest's. Rejects with ECONNREFUSED when nobody listens there,
   * ETIMEDOUT, ENOBUFS at the limit of connections, ENODEV when the device is not open, EINVAL, and
   * with the signal's reason.
   */
  connect(port: number, options?: ConnectOptions): Promise<VsockStream> {
    this.#host?.lookForReset(); // not to take the new one for one of before it
    return this.#sockets.connect(port, options);
  }

  /**
   * Takes the guest's connections to a port of the host's; `onConnection` gets a stream for each.
   * Throws EADDRINUSE, EINVAL.
   */
  listen(port: number, onConnection: (stream: VsockStream) => void): VsockListener {
    return this.#sockets.listen(port, onConnection);
  }

  /**
   * Ends all connections at both ends with ECONNRESET, as after a migration. Throws ENODEV when the
   * device is not open. virtio 1.3, 5.10.6.7 Device Events.
   */
  resetTransport(): void {
    if (!this.#host) throw closedError();
    this.#host.resetTransport();
  }
}

/**
 * A socket device: `const sockets = vsock({ cid: 3 }); await process.open(sockets)`, then
 * `sockets.listen(port, …)` and `await sockets.connect(port)`. Throws EINVAL for options that make
 * none.
 */
export function vsock(options: VsockOptions): Vsock {
  checkNames("a socket device", options ?? {}, OPTIONS);
  const { cid, queueSize = 256, unix } = options ?? {};
  if (!Number.isInteger(cid) || cid < VMADDR_CID_GUEST_MIN || cid >= VMADDR_ANY) {
    throw new VhostError("EINVAL", "a guest's cid is a whole number from 3 to 4294967294", { cid });
  }
  checkQueueSize(queueSize);
  if (unix !== undefined) checkUnixPath(unix);
  return new Vsock(options);
}

/** Makes the device, in the worker's thread. For `DeviceModule`. */
export function createDevice(options: unknown): VirtioDevice {
  const { queueSize, link } = options as VsockSettings;
  return new VsockDevice(queueSize, link instanceof VsockLink ? link : new VsockLink(link));
}
