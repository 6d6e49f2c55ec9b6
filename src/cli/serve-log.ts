import type { VhostUserEvent } from "../vhost-user/events.js";
import type { VhostUserServer } from "../vhost-user/server.js";

const STATUS_MS = 1000;

const rate = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** An event as a line for a person. */
function toText(event: VhostUserEvent): string {
  switch (event.event) {
    case "listening":
      return `listening at ${event.socketPath}`;
    case "connected": {
      const { comm, pid, uid, gid, worker } = event;
      return `connected: ${comm} (pid ${pid}, uid ${uid}, gid ${gid}), worker ${worker}`;
    }
    case "rejected":
      return `a front-end can't be served: ${event.error.message}`;
    case "refused":
      return `refused ${event.request}: ${event.error.message}`;
    case "ring-error": {
      const counts = Object.entries(event.errors).map(([name, count]) => `${name} × ${count}`);
      return `ring ${event.queue}: ${counts.join(", ")}`;
    }
    case "ring-unusable":
      return `ring ${event.queue} can't run: ${event.error.message}`;
    case "disconnected": {
      const { requests, bytes, error } = event;
      const why = error ? `: ${error.message}` : "";
      return `disconnected after ${rate.format(requests)} requests, ${rate.format(bytes)}B${why}`;
    }
  }
}

/** An event as a line for a program. */
function toJson(event: VhostUserEvent): string {
  const time = new Date().toISOString();
  return JSON.stringify({ time, ...event }, (_key, value) => {
    if (value instanceof Error) return value.message;
    return typeof value === "bigint" ? Number(value) : value;
  });
}

/**
 * What `serve` prints: a line for each event to standard output; on a terminal, below them, a line
 * with what goes on, to standard error.
 */
export class ServeLog {
  readonly #form: "text" | "json";
  readonly #isLive: boolean;
  #timer: NodeJS.Timeout | undefined;
  #last = { requests: 0, bytes: 0 };

  /** `isTerminal`: there is a place for a line that is written again and again. */
  constructor(form: "text" | "json", isTerminal: boolean) {
    this.#form = form;
    this.#isLive = isTerminal && form === "text";
  }

  /** Prints an event. */
  event(event: VhostUserEvent): void {
    this.#wipe();
    const isJson = this.#form === "json";
    process.stdout.write(`${isJson ? toJson(event) : `vhost-wasm: ${toText(event)}`}\n`);
    if (event.event !== "listening" && event.event !== "connected") return;
    this.#last = { requests: 0, bytes: 0 };
  }

  /** Shows what `server` does, once a second. */
  watch(server: VhostUserServer): void {
    if (!this.#isLive) return;
    this.#timer = setInterval(() => {
      const { requests, bytes } = server.counts;
      const perSecond = (now: number, last: number) => rate.format(Math.max(0, now - last));
      const requestRate = perSecond(requests, this.#last.requests);
      const byteRate = perSecond(bytes, this.#last.bytes);
      this.#last = { requests, bytes };
      this.#wipe();
      const total = rate.format(requests);
      process.stderr.write(`${requestRate} requests/s, ${byteRate}B/s, ${total} requests in all`);
    }, STATUS_MS);
  }

  #wipe(): void {
    if (this.#isLive) process.stderr.write("\r\x1b[K");
  }

  /** Takes the live line away. */
  close(): void {
    clearInterval(this.#timer);
    this.#wipe();
  }
}
