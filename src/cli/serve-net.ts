import { Command } from "commander";
import { NET_QUEUE_PAIRS_MAX, type NetOptions, net } from "../devices/net.js";
import { Switch, type SwitchPort } from "../devices/net-switch.js";
import { ETH_DATA_LEN, ETH_MAX_MTU, VIRTIO_NET_MTU_MIN } from "../spec/virtio-net.js";
import { Taps } from "./net-taps.js";
import {
  type ServeDeviceOptions,
  type Serving,
  serveDevices,
  withServeOptions,
} from "./serve-device.js";
import { parseCount } from "./size.js";

/** What QEMU sets up at most. */
export const NET_QUEUE_SIZE = 1024;
/** Pairs of queues, unless told. */
export const NET_QUEUE_PAIRS_DEFAULT = 1;
/** A switch has so many ports at least. */
const PORTS_MIN = 2;
const MILLISECONDS_A_SECOND = 1000;

interface ServeNetOptions extends Omit<ServeDeviceOptions, "socket"> {
  socket: string[];
  tap: string[];
  pcap?: string;
  queues: number;
  mtu: number;
  counts?: number;
}

const EXAMPLE = `
One switch, and a socket for each VM. A VM's memory must be shared with us; for QEMU:
  -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem -m 1G
  -chardev socket,id=net,path=<path> -netdev vhost-user,id=lan,chardev=net
  -device virtio-net-pci,netdev=lan,mac=52:54:00:00:00:01
With several queues (--queues), and as many CPUs of the VM: -netdev vhost-user,…,queues=<n>
  -device virtio-net-pci,…,mq=on,vectors=<2n+2>
An interface of --tap is the host's: made beforehand, for a user without rights; else by us, with
CAP_NET_ADMIN. It joins a bridge or Open vSwitch (ip link set tap0 master br0), or has an address:
  ip tuntap add dev tap0 mode tap user $USER
  ip addr add 192.168.100.1/24 dev tap0
  ip link set tap0 up`;

/** `serve net`: a switch between virtual machines. */
export function netCommand(): Command {
  const command = new Command("net")
    .description("A switch: each VM at one of its sockets, the host at --tap, all in one network.")
    .requiredOption(
      "--socket <path>",
      "where to listen for a VM; again for each more (required)",
      (path: string, before: string[] = []) => [...before, path],
    )
    .option(
      "--tap <name>",
      "an interface of the host's in the same network; again for each more",
      (name: string, before: string[]) => [...before, name],
      [] as string[],
    )
    .option("--pcap <file>", "a capture of the first VM's packets, for Wireshark")
    .option(
      "--queues <n>",
      "pairs of queues that each VM may use",
      parseCount(1, NET_QUEUE_PAIRS_MAX),
      NET_QUEUE_PAIRS_DEFAULT,
    )
    .option(
      "--mtu <n>",
      "the most payload of a packet",
      parseCount(VIRTIO_NET_MTU_MIN, ETH_MAX_MTU),
      ETH_DATA_LEN,
    )
    .option("--counts <s>", "print each port's counts so often, in seconds", parseCount(1, 3600));
  return withServeOptions(command).addHelpText("after", EXAMPLE).action(serveNet);
}

/** `tap`: the interface at the port, if it is not a VM's. */
function printCounts(port: SwitchPort, tap?: string): void {
  const time = new Date().toISOString();
  const who = { time, event: "counts", port: port.index, ...(tap !== undefined && { tap }) };
  console.log(JSON.stringify({ ...who, ...port.counts() }));
}

/** A capture, whose end is told where what goes wrong is. */
export function captureOf(pcap: string): Pick<NetOptions, "pcap" | "onError"> {
  return { pcap, onError: ({ message }) => console.error(`vhost-wasm: ${message}`) };
}

async function serveNet({ log, ...options }: ServeNetOptions): Promise<void> {
  const { socket: sockets, tap: names, pcap, queues: queuePairs, mtu, counts } = options;
  const lan = new Switch({ ports: Math.max(PORTS_MIN, sockets.length + names.length) });
  const ports = sockets.map(() => lan.port());
  const servings = ports.map((port, index): Serving => {
    const capture = pcap !== undefined && index === 0 ? captureOf(pcap) : {};
    return {
      options: { ...options, socket: sockets[index] as string },
      name: `port ${index}`,
      device: net({ switch: port, mtu, queuePairs, queueSize: NET_QUEUE_SIZE, ...capture }),
      served: `port ${index} of the switch`,
    };
  });
  const tapPorts = names.map((name) => ({ name, port: lan.port() }));
  const taps = await Taps.open(tapPorts, log);
  const print = () => {
    for (const port of ports) printCounts(port);
    for (const { name, port } of tapPorts) printCounts(port, name);
  };
  const printing = counts && setInterval(print, counts * MILLISECONDS_A_SECOND);
  try {
    await serveDevices(servings, { log });
  } finally {
    clearInterval(printing);
    if (counts) print();
    await taps[Symbol.asyncDispose]();
    lan.close();
  }
}
