import { connect, createServer, type Server, type Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { VhostError } from "../spec/errno.js";
import type { VsockConnection } from "../vsock/connection.js";
import type { VsockSockets } from "../vsock/sockets.js";
import { VsockStream } from "../vsock/stream.js";
import { listenAt } from "./unix-server.js";

/** The longest first line: "CONNECT 4294967295\r\n". */
const LINE_BYTES_MAX = 20;
const LINE = /^CONNECT (\d{1,10})\r?\n/;
/** A socket's path has 107 bytes at most, those of "_4294967295" included. */
const PATH_BYTES_MAX = 96;

/** Throws EINVAL, ENAMETOOLONG for what can't be the path of a device's sockets. */
export function checkUnixPath(path: string): void {
  if (typeof path !== "string" || path === "") {
    throw new VhostError("EINVAL", "unix is the path of a socket", { path });
  }
  if (Buffer.byteLength(path) <= PATH_BYTES_MAX) return;
  const message = `a port is added to it, so it has at most ${PATH_BYTES_MAX} bytes: ${path}`;
  throw new VhostError("ENAMETOOLONG", message, { path });
}

/**
 * Unix sockets for a guest's ports, as Firecracker and vhost-device-vsock have them. Who connects
 * to `path` says "CONNECT <port>\n", is told "OK <port of the host's>\n", and is connected to the
 * guest. When the guest connects to a port that nobody in the program listens at, it is connected
 * to the socket `<path>_<port>`, or refused.
 */
export class VsockUnix {
  readonly #path: string;
  readonly #sockets: VsockSockets;
  readonly #server: Server;
  /** All sockets of either kind. */
  readonly #open = new Set<Socket>();

  /**
   * Listens. `connectionsMax`: sockets that may wait for their first line or be connected. Throws
   * EADDRINUSE, ENOENT, EACCES.
   */
  constructor(path: string, sockets: VsockSockets, connectionsMax: number) {
    this.#path = path;
    this.#sockets = sockets;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#greet(socket));
    this.#server.maxConnections = connectionsMax;
    listenAt(this.#server, path);
    sockets.otherwise = (connection) => this.#reach(connection);
  }

  #keep(socket: Socket): void {
    this.#open.add(socket);
    socket.once("close", () => this.#open.delete(socket));
    socket.on("error", () => socket.destroy());
  }

  /** Reads the first line, byte for byte: what follows is the guest's. */
  #greet(socket: Socket): void {
    this.#keep(socket);
    let line = "";
    const giveUp = () => socket.destroy();
    const read = () => {
      for (let byte = socket.read(1); byte; byte = socket.read(1)) {
        line += byte.toString("latin1");
        if (!line.endsWith("\n") && line.length < LINE_BYTES_MAX) continue;
        socket.off("readable", read).off("end", giveUp);
        void this.#connect(socket, LINE.exec(line)?.[1]);
        return;
      }
    };
    socket.on("readable", read).once("end", giveUp);
  }

  async #connect(socket: Socket, port: string | undefined): Promise<void> {
    try {
      if (port === undefined) throw new VhostError("EINVAL", "no CONNECT <port>");
      const stream = await this.#sockets.connect(Number(port));
      if (socket.destroyed) {
        stream.destroy();
        return;
      }
      socket.write(`OK ${stream.localPort}\n`);
      join(stream, socket);
    } catch {
      socket.destroy(); // what the convention has for "no"
    }
  }

  /** The guest asks for a port that nobody listens at here. */
  #reach(connection: VsockConnection): void {
    const path = `${this.#path}_${connection.localPort}`;
    const socket = connect({ path, allowHalfOpen: true });
    this.#keep(socket);
    connection.events = {
      established: () => {},
      readable: () => {},
      sent: () => {},
      closed: () => socket.destroy(),
    };
    const refuse = () => connection.reset();
    socket.once("close", refuse).once("connect", () => {
      socket.off("close", refuse);
      const stream = new VsockStream(connection);
      connection.accept();
      join(stream, socket);
    });
  }

  /** Ends all of it, and removes the socket's file. */
  close(): void {
    this.#sockets.otherwise = undefined;
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
  }
}

/** Bytes go both ways, each to its own end; an error of one is the end of both. */
function join(stream: VsockStream, socket: Socket): void {
  const goOn = () => {}; // what went wrong, both have been told by then
  stream.on("error", goOn);
  pipeline(stream as Duplex, socket, goOn);
  pipeline(socket, stream as Duplex, goOn);
}
