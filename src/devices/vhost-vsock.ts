import type { Task } from "../kernel/task.js";
import { VhostError } from "../spec/errno.js";
import { VIRTQ_SIZE_MAX } from "../spec/virtio-ring.js";
import { VMADDR_CID_HOST } from "../spec/virtio-vsock.js";
import type { BackingEnd, VhostBacking } from "../vhost/ioctl/backing.js";
import { VsockSockets } from "../vsock/sockets.js";
import { createDevice, type VsockSettings } from "./vsock.js";
import { VsockHost } from "./vsock-host.js";

const BUFFER_BYTES = 1 << 18;
const CONNECTIONS_MAX = 1024;

/**
 * What works behind /dev/vhost-vsock: the socket device in the owner's worker, the host's sockets
 * here. By the rings' policy, linux, what it makes of each kick, and of what is wrong in a chain,
 * is what vhost/vsock.c does. Kernel's thread. Linux: vhost_vsock.
 */
export class VhostVsock implements VhostBacking {
  readonly module = new URL("./vsock.js", import.meta.url).href;
  readonly createDevice = createDevice;
  /** The host's sockets to the guest. */
  readonly sockets: VsockSockets;
  #host: VsockHost | undefined;
  #cid = 0;

  constructor() {
    this.sockets = new VsockSockets(
      {
        localCid: VMADDR_CID_HOST,
        peerCid: 0,
        bufferBytes: BUFFER_BYTES,
        connectionsMax: CONNECTIONS_MAX,
      },
      () => this.#host?.flushSoon(),
    );
  }

  open(worker: Task, isInline: boolean): BackingEnd {
    const host = new VsockHost(this.sockets, { worker, wakeFd: undefined }, this.#cid);
    this.#host = host;
    const link = isInline ? host.inline : host.buffers;
    return {
      options: { queueSize: VIRTQ_SIZE_MAX, link } satisfies VsockSettings,
      work: () => host.work(),
      close: () => {
        this.#host = undefined;
        host.close();
      },
    };
  }

  cidSet(cid: number): void {
    this.#cid = cid;
    this.sockets.endpoint.peerCid = cid;
    this.#host?.setCid(cid);
  }

  released(): void {
    this.sockets.close(new VhostError("ENODEV", "the device is closed"));
  }
}
