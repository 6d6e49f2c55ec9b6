import { existsSync } from "node:fs";
import type { Server } from "node:net";
import { dirname } from "node:path";
import { takeAway } from "../linux/stale-socket.js";
import { VhostError } from "../spec/errno.js";

/**
 * Makes `server` listen at a Unix socket, at once; it takes the place of one that nobody has any
 * more, and does not keep the program alive. Its errors from then on go nowhere. Throws EADDRINUSE,
 * ENOENT, EACCES.
 */
export function listenAt(server: Server, path: string): void {
  server.on("error", () => {}); // said below, at once
  const wasThere = existsSync(path);
  server.listen(path);
  if (!server.listening && takeAway(path)) server.listen(path);
  if (!server.listening) throw listenError(path, wasThere);
  server.unref(); // the device's worker keeps the program alive
}

function listenError(path: string, wasThere: boolean): VhostError {
  if (wasThere) {
    const how = "remove it if nobody has it any more";
    return new VhostError("EADDRINUSE", `${path} is there already; ${how}`, { path });
  }
  const code = existsSync(dirname(path)) ? "EACCES" : "ENOENT";
  return new VhostError(code, `no socket can be made at ${path}`, { path });
}
