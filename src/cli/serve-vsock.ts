import { Command } from "commander";
import { vsock } from "../devices/vsock.js";
import { VMADDR_ANY, VMADDR_CID_GUEST_MIN } from "../spec/virtio-vsock.js";
import { type ServeDeviceOptions, serveDevice, withServeOptions } from "./serve-device.js";
import { parseCount } from "./size.js";

/** What QEMU sets up. */
export const VSOCK_QUEUE_SIZE = 1024;

interface ServeVsockOptions extends ServeDeviceOptions {
  cid: number;
  unix: string;
}

const EXAMPLE = `
Who connects to --unix says "CONNECT <port>" and is told "OK" and the host's port; a guest that
connects to a port is connected to <unix>_<port>. A VM's memory must be shared with us; for QEMU:
  -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem -m 1G
  -chardev socket,id=vsock,path=<path> -device vhost-user-vsock-pci,chardev=vsock`;

/** `serve vsock`: a guest's sockets as Unix sockets. */
export function vsockCommand(): Command {
  const command = new Command("vsock")
    .description("A socket device: the guest's ports as Unix sockets of the host.")
    .requiredOption("--socket <path>", "where to listen for the VM (required)")
    .requiredOption(
      "--cid <n>",
      "the guest's address, 3 or more (required)",
      parseCount(VMADDR_CID_GUEST_MIN, VMADDR_ANY - 1),
    )
    .requiredOption("--unix <path>", "where programs connect to the guest (required)");
  return withServeOptions(command).addHelpText("after", EXAMPLE).action(serveVsock);
}

async function serveVsock(options: ServeVsockOptions): Promise<void> {
  const { cid, unix } = options;
  const device = vsock({ cid, unix, queueSize: VSOCK_QUEUE_SIZE });
  await serveDevice(options, device, `CID ${cid} at ${unix}`);
}
