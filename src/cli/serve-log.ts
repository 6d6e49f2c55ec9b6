import type { QueueCounts } from "../vhost/counters.js";
import type { VhostUserEvent } from "../vhost-user/events.js";
import type { VhostUserServer } from "../vhost-user/server.js";

const STATUS_MS = 1000;

/** Names that others chose may hold line feeds and escapes: a line stays a line. */
const CONTROLS = /\p{Cc}/gu;
const UNITS = ["", "k", "M", "G", "T"];

/** 1234567 as "1.2 M": for requests and for bytes. */
function short(count: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  const digits = power === 0 ? 0 : 1;
  return `${(count / 1000 ** power).toFixed(digits)} ${UNITS[power]}`.trimEnd();
}

/** With the unit that follows: "1.2 MB", "512 B". */
function shortBytes(bytes: number): string {
  const text = short(bytes);
  return /\d$/.test(text) ? `${text} B` : `${text}B`;
}

/** "1 request", "2 requests". */
const plural = (count: number, what: string) => `${short(count)} ${what}${count === 1 ? "" : "s"}`;

/** An event as a line for a person. */
function toText(event: VhostUserEvent, served: string): string {
  switch (event.event) {
    case "listening":
      return `listening at ${event.socketPath}, serves ${served}`;
    case "connecting":
      return `connects to ${event.socketPath}, serves ${served}`;
    case "connected": {
      const { comm, pid, uid, gid, worker } = event;
      return `connected: ${comm} (pid ${pid}, uid ${uid}, gid ${gid}), worker ${worker}`;
    }
    case "waiting":
      return "another front-end waits until this one goes: a socket serves one at a time";
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
    case "io-error": {
      const { queue, count, lastError } = event;
      return `ring ${queue}: ${plural(count, "request")} failed, the last with ${lastError}`;
    }
    case "disconnected": {
      const { requests, bytes, failures, error } = event;
      const failed = failures > 0 ? `, ${short(failures)} failed` : "";
      const why = error ? `: ${error.message}` : "";
      const done = `${plural(requests, "request")}, ${shortBytes(bytes)}`;
      return `disconnected after ${done}${failed}${why}`;
    }
  }
}

/** An event as a line for a program. */
function toJson(event: VhostUserEvent, device: string | undefined): string {
  const time = new Date().toISOString();
  return JSON.stringify({ time, device, ...event }, (_key, value) => {
    if (value instanceof Error) return value.message;
    return typeof value === "bigint" ? Number(value) : value;
  });
}

/** What a log is about, and where it goes. */
export interface ServeLogOptions {
  /** There is a terminal, with a place for a line that is written again and again. */
  isLive: boolean;
  /** What the device is, in a few words. */
  served: string;
  /** What it is called, where there are several. */
  name: string | undefined;
  out: NodeJS.WritableStream;
}

/**
 * What `serve` prints: a line for each event; on a terminal, below them, a line with what goes on,
 * to standard error.
 */
export class ServeLog {
  readonly #form: "text" | "json";
  readonly #isLive: boolean;
  readonly #served: string;
  readonly #name: string | undefined;
  readonly #out: NodeJS.WritableStream;
  #timer: NodeJS.Timeout | undefined;
  #last: Omit<QueueCounts, "failures"> = { requests: 0, bytes: 0 };

  constructor(form: "text" | "json", { isLive, served, name, out }: ServeLogOptions) {
    this.#form = form;
    this.#served = served;
    this.#name = name;
    this.#out = out;
    for (const stream of [process.stdout, process.stderr]) {
      stream.removeAllListeners("error").on("error", () => {}); // whoever reads the log may go
    }
    this.#isLive = isLive && form === "text";
  }

  /** Prints an event. */
  event(event: VhostUserEvent): void {
    this.#wipe();
    const isJson = this.#form === "json";
    const who = this.#name === undefined ? "" : `${this.#name}: `;
    const line = isJson
      ? toJson(event, this.#name)
      : `vhost-wasm: ${who}${toText(event, this.#served)}`;
    this.#out.write(`${line.replace(CONTROLS, "?")}\n`);
    if (event.event !== "connected") return;
    this.#last = { requests: 0, bytes: 0 };
  }

  /** Shows what `server` does, once a second. */
  watch(server: VhostUserServer): void {
    if (!this.#isLive) return;
    this.#timer = setInterval(() => {
      this.#wipe();
      process.stderr.write(this.#status(server.counts));
    }, STATUS_MS);
  }

  #status(counts: QueueCounts | undefined): string {
    if (!counts) return "waiting for a front-end";
    const requests = Math.max(0, counts.requests - this.#last.requests);
    const bytes = Math.max(0, counts.bytes - this.#last.bytes);
    this.#last = counts;
    const total = short(counts.requests);
    return `${short(requests)} requests/s, ${shortBytes(bytes)}/s; ${total} requests in all`;
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
