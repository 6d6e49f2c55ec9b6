import { dirname, resolve } from "node:path";
import {
  array,
  boolean,
  check,
  type GenericSchema,
  type InferOutput,
  integer,
  literal,
  maxValue,
  minValue,
  nonEmpty,
  number,
  optional,
  picklist,
  pipe,
  rawTransform,
  strictObject,
  string,
  union,
} from "valibot";
import { console } from "../devices/console.js";
import { NET_QUEUE_PAIRS_MAX, net } from "../devices/net.js";
import { Switch, type SwitchPort } from "../devices/net-switch.js";
import { rng } from "../devices/rng.js";
import { vsock } from "../devices/vsock.js";
import { VIRTIO_BLK_SECTOR_BYTES } from "../spec/virtio-blk.js";
import { ETH_DATA_LEN, ETH_MAX_MTU, VIRTIO_NET_MTU_MIN, VLAN_VID_MAX } from "../spec/virtio-net.js";
import { VMADDR_ANY, VMADDR_CID_GUEST_MIN } from "../spec/virtio-vsock.js";
import type { DeviceSpec } from "../vhost/device.js";
import { DOORBELL_QUEUES_MAX } from "../vhost/notify.js";
import { BLK_ID_DEFAULT, BLK_QUEUES_DEFAULT, blkFault, blkOf, describeBlk } from "./serve-blk.js";
import { joinPorts } from "./serve-console.js";
import { POLL_MICROSECONDS_DEFAULT, POLL_MICROSECONDS_MAX } from "./serve-device.js";
import { captureOf, NET_QUEUE_PAIRS_DEFAULT, NET_QUEUE_SIZE } from "./serve-net.js";
import { describeRng } from "./serve-rng.js";
import { VSOCK_QUEUE_SIZE } from "./serve-vsock.js";
import { parseSize } from "./size.js";

/** A device as a kind makes it. */
export interface Made {
  device: DeviceSpec;
  /** What it is, in a few words. */
  served: string;
  /** What is to be done at the end. */
  leave?: (() => void)[];
}

const SIDE_MAX = 0xffff;
/** Every switch has so many: the most that one may have. */
const SWITCH_PORTS = 32;
const text = pipe(string(), nonEmpty("it is empty"));

function count(min: number, max: number) {
  const message = `it is a whole number from ${min} to ${max}`;
  return pipe(number(), integer(message), minValue(min, message), maxValue(max, message));
}

/** A number of bytes, or text as the options of the command line have it: "64M". */
function size(unitBytes: number) {
  return pipe(
    union([number(), string()], 'it is a number of bytes, or a text like "64M"'),
    rawTransform<number | string, number>(({ dataset, addIssue, NEVER }) => {
      try {
        return parseSize(unitBytes)(String(dataset.value));
      } catch (error) {
        addIssue({ message: (error as Error).message });
        return NEVER;
      }
    }),
  );
}

/** What every device has. */
const common = {
  name: optional(text),
  socket: text,
  pollUs: optional(count(0, POLL_MICROSECONDS_MAX), POLL_MICROSECONDS_DEFAULT),
  policy: optional(picklist(["strict", "linux"]), "strict"),
  connect: optional(boolean(), false),
  trustMemory: optional(boolean(), false),
};

const blkSchema = strictObject({
  ...{ kind: literal("blk"), ...common },
  image: optional(text),
  memory: optional(size(VIRTIO_BLK_SECTOR_BYTES)),
  null: optional(size(VIRTIO_BLK_SECTOR_BYTES)),
  readOnly: optional(boolean(), false),
  queues: optional(count(1, DOORBELL_QUEUES_MAX), BLK_QUEUES_DEFAULT),
  workers: optional(count(1, DOORBELL_QUEUES_MAX), 1),
  id: optional(string(), BLK_ID_DEFAULT),
  io: optional(picklist(["inline", "uring"]), "inline"),
  asOwner: optional(boolean(), false),
});

const vsockSchema = strictObject({
  ...{ kind: literal("vsock"), ...common },
  cid: count(VMADDR_CID_GUEST_MIN, VMADDR_ANY - 1),
  unix: text,
});

const rngSchema = strictObject({
  ...{ kind: literal("rng"), ...common },
  rate: optional(size(1)),
});

const portSchema = strictObject({
  name: optional(text),
  console: optional(boolean()),
  unix: text,
});

const consoleSchema = strictObject({
  ...{ kind: literal("console"), ...common },
  ports: array(portSchema),
  cols: optional(count(1, SIDE_MAX)),
  rows: optional(count(1, SIDE_MAX)),
});

const vid = count(1, VLAN_VID_MAX);

/** A port of a switch. */
const place = { switch: text, vlan: optional(vid), trunk: optional(array(vid)) };
const isPlace = ({ vlan, trunk }: Place) => !vlan || !trunk;
const PLACE_FAULT = "a port has vlan or trunk, not both";

const netSchema = strictObject({
  ...{ kind: literal("net"), ...common, ...place },
  mac: optional(text),
  queues: optional(count(1, NET_QUEUE_PAIRS_MAX), NET_QUEUE_PAIRS_DEFAULT),
  mtu: optional(count(VIRTIO_NET_MTU_MIN, ETH_MAX_MTU), ETH_DATA_LEN),
  pcap: optional(text),
});

/** An interface of the host's, at a switch that devices are at, too. */
export const tapSchema = pipe(
  strictObject({ tap: text, ...place }),
  check((config) => isPlace(config), PLACE_FAULT),
);

/** Which switch, by name, and which VLANs. */
interface Place {
  switch: string;
  vlan?: number | undefined;
  trunk?: number[] | undefined;
}

/** What the entries of one file share. */
export class Machine {
  readonly #file: string;
  readonly #switches = new Map<string, Switch>();

  /** `file`: where its paths begin. */
  constructor(file: string) {
    this.#file = file;
  }

  /** A path as it is meant: from the file's folder on. */
  at(path: string): string {
    return resolve(dirname(this.#file), path);
  }

  /** A port of the switch of that name. Throws ENOBUFS when the switch has no more, EINVAL. */
  port({ switch: name, vlan, trunk }: Place): SwitchPort {
    const lan = this.#switches.get(name) ?? new Switch({ ports: SWITCH_PORTS });
    this.#switches.set(name, lan);
    return lan.port({ ...(vlan && { vlan }), ...(trunk && { trunk }) });
  }

  /** Gives the switches back, after the devices' end. */
  close(): void {
    for (const lan of this.#switches.values()) lan.close();
  }
}

/** A kind of device: what its entry must be, and the device that is made of it. */
interface ConfigKind<Schema extends GenericSchema> {
  schema: Schema;
  /** May throw what the device's maker does. */
  make(config: InferOutput<Schema>, machine: Machine): Made;
}

/** Infers the one from the other. */
const kind = <Schema extends GenericSchema>(one: ConfigKind<Schema>) => one;

const blkKind = kind({
  schema: pipe(
    blkSchema,
    check(
      (config) => blkFault(config, String) === undefined,
      ({ input }) => blkFault(input, String) ?? "",
    ),
  ),
  make: ({ image, ...rest }, machine) => {
    const config = { ...rest, ...(image !== undefined && { image: machine.at(image) }) };
    return { device: blkOf(config), served: describeBlk(config) };
  },
});

const vsockKind = kind({
  schema: vsockSchema,
  make: ({ cid, unix }, machine) => ({
    device: vsock({ cid, unix: machine.at(unix), queueSize: VSOCK_QUEUE_SIZE }),
    served: `CID ${cid} at ${machine.at(unix)}`,
  }),
});

const rngKind = kind({
  schema: rngSchema,
  make: ({ rate }) => ({
    device: rng(rate === undefined ? {} : { rate }),
    served: describeRng(rate),
  }),
});

const consoleKind = kind({
  schema: consoleSchema,
  make: ({ ports, cols, rows }, machine) => {
    const device = console({
      ports: ports.map(({ name, console: isConsole }) => ({
        ...(name !== undefined && { name }),
        ...(isConsole !== undefined && { console: isConsole }),
      })),
      ...(cols !== undefined && { cols }),
      ...(rows !== undefined && { rows }),
    });
    const leave = joinPorts(
      device,
      ports.map(({ unix }, index) => ({ name: index, path: machine.at(unix) })),
    );
    return {
      device,
      served: `a console at ${ports.map(({ unix }) => machine.at(unix)).join(", ")}`,
      leave,
    };
  },
});

const netKind = kind({
  schema: pipe(
    netSchema,
    check((config) => isPlace(config), PLACE_FAULT),
  ),
  make: ({ mac, queues: queuePairs, mtu, pcap, ...where }, machine) => {
    const port = machine.port(where);
    const device = net({
      ...{ switch: port, mtu, queuePairs, queueSize: NET_QUEUE_SIZE },
      ...(mac !== undefined && { mac }),
      ...(pcap !== undefined && captureOf(machine.at(pcap))),
    });
    return { device, served: `port ${port.index} of the switch ${where.switch}` };
  },
});

/** All kinds, by the name that an entry has in `kind`. */
export const CONFIG_KINDS = {
  blk: blkKind,
  console: consoleKind,
  net: netKind,
  rng: rngKind,
  vsock: vsockKind,
};
