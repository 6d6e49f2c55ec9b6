import { createServer, type Server, type Socket } from "node:net";
import { resolve } from "node:path";
import { VhostError } from "../spec/errno.js";
import type { ConsoleStream } from "./console-stream.js";
import { listenAt } from "./unix-server.js";

/** The longest path of a Unix socket. Linux: unix(7). */
const PATH_BYTES_MAX = 107;

/** A Unix socket that is a console's port for who connects to it: one at a time. */
export class ConsoleListener implements Disposable {
  /** Where it listens. */
  readonly path: string;
  readonly #server: Server;
  readonly #open: () => ConsoleStream;
  #socket: Socket | undefined;

  /** `open`: opens the port, or throws. Throws EINVAL, EADDRINUSE, ENOENT, EACCES. */
  constructor(path: string, open: () => ConsoleStream) {
    const isPath = typeof path === "string" && path !== "";
    if (!isPath || Buffer.byteLength(resolve(path)) > PATH_BYTES_MAX) {
      throw new VhostError("EINVAL", `a socket's path has 1 to ${PATH_BYTES_MAX} bytes`, { path });
    }
    this.path = resolve(path);
    this.#open = open;
    this.#server = createServer((socket) => this.#join(socket));
    listenAt(this.#server, this.path);
  }

  /** Bytes go both ways until the socket is closed: then the port is, too. */
  #join(socket: Socket): void {
    socket.on("error", () => {}); // its end says all
    let stream: ConsoleStream;
    try {
      stream = this.#open();
    } catch {
      socket.destroy(); // somebody has the port
      return;
    }
    this.#socket = socket;
    stream.once("close", () => socket.destroy());
    socket.once("close", () => stream.destroy());
    socket.pipe(stream).pipe(socket);
  }

  /** Sends away who is connected, and removes the socket. Idempotent. */
  close(): void {
    this.#server.close();
    this.#socket?.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
