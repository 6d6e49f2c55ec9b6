import { checkQueueSize } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import type { Claim, DeviceHost, DeviceParts, DeviceSpec, VirtioDevice } from "../vhost/device.js";
import { ConsoleDevice } from "./console-device.js";
import { ConsoleHost } from "./console-host.js";
import { ConsoleLink, type ConsoleLinkBuffers, type ConsolePortLink } from "./console-link.js";
import { ConsoleListener } from "./console-listener.js";
import { ConsoleStream } from "./console-stream.js";

/** A port of a console device. */
export interface ConsolePortOptions {
  /** What the guest finds it by: /dev/virtio-ports/<name>. Up to 128 bytes. */
  name?: string;
  /** It is a console, /dev/hvc0 and so on. Default: the first port is, when nobody says. */
  console?: boolean;
}

/** A console device. */
export interface ConsoleOptions {
  /** Its ports, 1 to 15. Default: one, a console. */
  ports?: readonly ConsolePortOptions[];
  /** Columns of the first port. */
  cols?: number;
  /** Rows of the first port. */
  rows?: number;
  /** Largest size of a queue, a power of two. Default 256. */
  queueSize?: number;
}

const OPTIONS = ["ports", "cols", "rows", "queueSize"];
const PORT_OPTIONS = ["name", "console"];
/** Two queues each, and two for control, of the 32 that a device may have. */
export const CONSOLE_PORTS_MAX = 15;
const NAME_BYTES_MAX = 128;
const QUEUE_SIZE_DEFAULT = 256;
const SIDE_MAX = 0xffff;

interface ConsoleSettings {
  queueSize: number;
  ports: { isConsole: boolean; name: Uint8Array }[];
}

let lastId = 0;

/**
 * A console device to open, and the host's ends of its ports. They are in the thread that made it,
 * and stay from one opening to the next. virtio 1.3, 5.3 Console Device.
 */
export class Console implements DeviceSpec<"console"> {
  readonly kind = "console";
  readonly module = import.meta.url;
  readonly options: ConsoleSettings;
  readonly #id = lastId++;
  readonly #link: ConsoleLink;
  readonly #names: readonly (string | undefined)[];
  readonly #streams: (ConsoleStream | undefined)[] = [];
  #host: ConsoleHost | undefined;

  /** See `console`. */
  constructor(options: ConsoleOptions) {
    const { ports = [{}], queueSize = QUEUE_SIZE_DEFAULT, cols = 0, rows = 0 } = options;
    const isAnySaid = ports.some((port) => port.console !== undefined);
    this.#names = ports.map(({ name }) => name);
    this.options = {
      queueSize,
      ports: ports.map(({ name = "", console: isConsole }, i) => ({
        isConsole: isConsole ?? (!isAnySaid && i === 0),
        name: new TextEncoder().encode(name),
      })),
    };
    this.#link = new ConsoleLink(ports.length);
    if (cols > 0) this.resize(cols, rows);
  }

  /** For who opens it: its ports are one guest's. */
  claims(): Claim[] {
    return [{ key: `console:${this.#id}`, label: "the console", mode: "exclusive" }];
  }

  /** For who opens it. */
  prepare(deviceHost: DeviceHost): DeviceParts {
    const host = new ConsoleHost(this.#link, () => this.#pump(), deviceHost);
    this.#host = host;
    return {
      options: { ...this.options, link: this.#link.buffers },
      close: async () => {
        this.#host = undefined;
        host.close();
        for (const port of this.#link.ports) port.isGuestOpen = false; // the worker has ended
        this.#pump();
      },
    };
  }

  #pump(): boolean {
    let isAny = false;
    for (const stream of this.#streams) if (stream?.pump()) isAny = true;
    return isAny;
  }

  #changed(): void {
    this.#link.changeForDevice();
    this.#host?.wake();
  }

  #port(port: number | string): [index: number, link: ConsolePortLink] {
    const index = typeof port === "string" ? this.#names.indexOf(port) : port;
    const link = this.#link.ports[index];
    if (link) return [index, link];
    throw new VhostError("EINVAL", `the console has no port ${port}`, { port });
  }

  /**
   * Opens the host's end of a port, by its number or name. What a guest sends to a port that is not
   * open here is lost. Throws EINVAL when there is no such port, EBUSY when it is open.
   */
  open(port: number | string = 0): ConsoleStream {
    const [index, link] = this.#port(port);
    if (this.#streams[index]) throw new VhostError("EBUSY", `port ${port} is open`, { port });
    const forget = () => {
      this.#streams[index] = undefined;
    };
    const stream = new ConsoleStream(link, () => this.#changed(), forget);
    this.#streams[index] = stream;
    return stream;
  }

  /**
   * Joins a port to a Unix socket, made here: who connects to `path` has the port, one at a time;
   * others are sent away. Throws EINVAL, EBUSY when the port is open, EADDRINUSE, ENOENT, EACCES.
   */
  listen(path: string, port: number | string = 0): ConsoleListener {
    const [index] = this.#port(port);
    if (this.#streams[index]) throw new VhostError("EBUSY", `port ${port} is open`, { port });
    return new ConsoleListener(path, () => this.open(port));
  }

  /** Whether a port is open in the guest. Throws EINVAL. */
  isGuestOpen(port: number | string = 0): boolean {
    return this.#port(port)[1].isGuestOpen;
  }

  /** Bytes that a guest sent to a port and nobody got, modulo 2^32. Throws EINVAL. */
  lostBytes(port: number | string = 0): number {
    return this.#port(port)[1].lostBytes;
  }

  /** A console has another size; the guest is told. Throws EINVAL. */
  resize(cols: number, rows: number, port: number | string = 0): void {
    const [, link] = this.#port(port);
    checkSize(cols, rows);
    link.size = rows * 0x10000 + cols;
    this.#changed();
  }

  /** Takes a port out, as a plug; what is not read by then stays. Throws EINVAL. */
  unplug(port: number | string): void {
    this.#port(port)[1].isPlugged = false;
    this.#changed();
  }

  /** Puts it in again. Throws EINVAL. */
  plug(port: number | string): void {
    this.#port(port)[1].isPlugged = true;
    this.#changed();
  }
}

function checkSize(cols: unknown, rows: unknown): void {
  const isSide = (side: unknown) => Number.isInteger(side) && Number(side) >= 1;
  if (isSide(cols) && isSide(rows) && Math.max(Number(cols), Number(rows)) <= SIDE_MAX) return;
  throw new VhostError("EINVAL", "cols and rows are whole numbers from 1 to 65535", { cols, rows });
}

function checkPorts(ports: readonly ConsolePortOptions[]): void {
  const isList = Array.isArray(ports) && ports.length >= 1 && ports.length <= CONSOLE_PORTS_MAX;
  if (!isList) throw new VhostError("EINVAL", `a console has 1 to ${CONSOLE_PORTS_MAX} ports`);
  for (const port of ports) {
    checkNames("a port", port, PORT_OPTIONS);
    const { name = "", console: isConsole = false } = port;
    const isName = typeof name === "string" && !/[\p{Cc}/]/u.test(name);
    if (!isName || Buffer.byteLength(name) > NAME_BYTES_MAX) {
      const message = `a port's name has up to ${NAME_BYTES_MAX} bytes, no "/" and no controls`;
      throw new VhostError("EINVAL", message, { name });
    }
    if (typeof isConsole !== "boolean") {
      throw new VhostError("EINVAL", "a port's console is true or false", { port });
    }
  }
  const names = ports.flatMap(({ name }) => name || []);
  if (new Set(names).size < names.length) {
    throw new VhostError("EINVAL", "two ports have the same name", { names });
  }
}

/**
 * A console device: `const terminal = console({ ports: [{}, { name: "org.example.agent" }] })`,
 * then `await process.open(terminal)` and `terminal.open(0)`, a stream. Throws EINVAL for options
 * that make none.
 */
export function console(options: ConsoleOptions = {}): Console {
  checkNames("a console", options, OPTIONS);
  const { ports, cols, rows, queueSize = QUEUE_SIZE_DEFAULT } = options;
  checkQueueSize(queueSize);
  if (ports !== undefined) checkPorts(ports);
  if (cols !== undefined || rows !== undefined) checkSize(cols, rows);
  return new Console(options);
}

/** Makes the device, in the worker's thread. For `DeviceModule`. */
export function createDevice(options: unknown): VirtioDevice {
  const { queueSize, ports, link } = options as ConsoleSettings & { link: ConsoleLinkBuffers };
  return new ConsoleDevice({ ports, queueSizeMax: queueSize }, new ConsoleLink(link));
}
