import { Command } from "commander";
import { type NetOptions, net } from "../devices/net.js";
import { Switch } from "../devices/net-switch.js";
import { ETH_DATA_LEN, ETH_MAX_MTU, VIRTIO_NET_MTU_MIN } from "../spec/virtio-net.js";
import {
  type ServeDeviceOptions,
  type Serving,
  serveDevices,
  withServeOptions,
} from "./serve-device.js";
import { parseCount } from "./size.js";

/** What QEMU sets up at most. */
export const NET_QUEUE_SIZE = 1024;
/** A switch has so many ports at least. */
const PORTS_MIN = 2;
const MILLISECONDS_A_SECOND = 1000;

interface ServeNetOptions extends Omit<ServeDeviceOptions, "socket"> {
  socket: string[];
  pcap?: string;
  mtu: number;
  counts?: number;
}

const EXAMPLE = `
One switch, and a socket for each VM. A VM's memory must be shared with us; for QEMU:
  -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem -m 1G
  -chardev socket,id=net,path=<path> -netdev vhost-user,id=lan,chardev=net
  -device virtio-net-pci,netdev=lan,mac=52:54:00:00:00:01`;

/** `serve net`: a switch between virtual machines. */
export function netCommand(): Command {
  const command = new Command("net")
    .description("A switch: each VM at one of its sockets, all in one network.")
    .requiredOption(
      "--socket <path>",
      "where to listen for a VM; again for each more (required)",
      (path: string, before: string[] = []) => [...before, path],
    )
    .option("--pcap <file>", "a capture of the first VM's packets, for Wireshark")
    .option(
      "--mtu <n>",
      "the most payload of a packet",
      parseCount(VIRTIO_NET_MTU_MIN, ETH_MAX_MTU),
      ETH_DATA_LEN,
    )
    .option("--counts <s>", "print each port's counts so often, in seconds", parseCount(1, 3600));
  return withServeOptions(command).addHelpText("after", EXAMPLE).action(serveNet);
}

/** A capture, whose end is told where what goes wrong is. */
export function captureOf(pcap: string): Pick<NetOptions, "pcap" | "onError"> {
  return { pcap, onError: ({ message }) => console.error(`vhost-wasm: ${message}`) };
}

async function serveNet({ log, ...options }: ServeNetOptions): Promise<void> {
  const { socket: sockets, pcap, mtu, counts } = options;
  const lan = new Switch({ ports: Math.max(PORTS_MIN, sockets.length) });
  const ports = sockets.map(() => lan.port());
  const servings = ports.map((port, index): Serving => {
    const capture = pcap !== undefined && index === 0 ? captureOf(pcap) : {};
    return {
      options: { ...options, socket: sockets[index] as string },
      name: `port ${index}`,
      device: net({ switch: port, mtu, queueSize: NET_QUEUE_SIZE, ...capture }),
      served: `port ${index} of the switch`,
    };
  });
  const print = () => {
    for (const port of ports) {
      console.log(JSON.stringify({ event: "counts", port: port.index, ...port.counts() }));
    }
  };
  const printing = counts && setInterval(print, counts * MILLISECONDS_A_SECOND);
  try {
    await serveDevices(servings, { log });
  } finally {
    clearInterval(printing);
    if (counts) print();
    lan.close();
  }
}
