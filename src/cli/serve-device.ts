import { type Command, Option } from "commander";
import type { Policy } from "../ring/state-block.js";
import { checkClaims, pathClaim } from "../vhost/claims.js";
import type { DeviceSpec } from "../vhost/device.js";
import { serveVhostUser, type VhostUserServer } from "../vhost-user/server.js";
import { ServeLog } from "./serve-log.js";
import { parseCount } from "./size.js";

/** How long a worker looks at its rings before it sleeps, in microseconds, unless told. */
export const POLL_MICROSECONDS_DEFAULT = 50;
/** The longest that it may be told to. */
export const POLL_MICROSECONDS_MAX = 1_000_000;

/** What ends a server; SIGHUP: its terminal is gone. */
const END_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Signals within so many milliseconds are one. */
const SAME_SIGNAL_MS = 500;

/** What every device that is served has as options. */
export interface ServeDeviceOptions {
  socket: string;
  pollUs: number;
  /** Where there may be more than one. */
  workers?: number | undefined;
  connect?: true;
  asOwner?: true;
  trustMemory?: true;
  policy: Policy;
  log: "text" | "json";
}

/** Adds those options, but for `--socket`. `asOwner`: what that one is for; without it, none. */
export function withServeOptions(command: Command, asOwner?: string): Command {
  command.option(
    "--poll-us <n>",
    "microseconds to look at the rings before sleeping; 0 saves CPU",
    parseCount(0, POLL_MICROSECONDS_MAX),
    POLL_MICROSECONDS_DEFAULT,
  );
  if (asOwner !== undefined) command.option("--as-owner", asOwner);
  return command
    .option("--connect", "the VM listens at --socket: connect to it, and again when it was gone")
    .option("--trust-memory", "take memory that can be truncated: that would end this program")
    .addOption(
      new Option("--policy <name>", "with a broken ring, do what the specification or Linux says")
        .choices(["strict", "linux"])
        .default("strict"),
    )
    .addOption(logOption());
}

/** `--log`, which every way to serve has. */
export function logOption(): Option {
  return new Option("--log <form>", "what to print").choices(["text", "json"]).default("text");
}

/** A device to serve, and how. */
export interface Serving {
  options: Omit<ServeDeviceOptions, "log" | "connect" | "asOwner" | "trustMemory"> & {
    connect?: boolean | undefined;
    asOwner?: boolean | undefined;
    trustMemory?: boolean | undefined;
  };
  device: DeviceSpec;
  /** What it is, in a few words. */
  served: string;
  /** What to call it where there are several. */
  name?: string;
}

/** How to serve. */
export interface ServeHow {
  log: "text" | "json";
  /** Ends it, as a signal does. */
  stop?: AbortController;
  /** The terminal is a console's: what is told goes to standard error, and no line is live. */
  isTerminalTaken?: boolean;
}

/** Serves `device` until a signal comes. `served`: what it is, in a few words. */
export async function serveDevice(
  { log, ...options }: ServeDeviceOptions,
  device: DeviceSpec,
  served: string,
  how: Omit<ServeHow, "log"> = {},
): Promise<void> {
  await serveDevices([{ options, device, served }], { log, ...how });
}

/** What a device and its socket are to have for themselves. */
function wantsOf({ options, device, name = device.kind }: Serving) {
  return { name, claims: [pathClaim(options.socket), ...(device.claims?.() ?? [])] };
}

/**
 * Ends by the first signal. One that comes behind it at once is the same, as who ends a command and
 * its group sends it; a later one ends the program as it is.
 */
function endBySignal(stop: AbortController): void {
  let first: number | undefined;
  const hear = (signal: NodeJS.Signals) => {
    first ??= performance.now();
    stop.abort();
    if (performance.now() - first < SAME_SIGNAL_MS) return;
    for (const name of END_SIGNALS) process.off(name, hear);
    process.kill(process.pid, signal);
  };
  for (const name of END_SIGNALS) process.on(name, hear);
}

/**
 * Serves all of them until a signal comes, or one of them fails: then none is served any more, and
 * it rejects.
 */
export async function serveDevices(servings: readonly Serving[], how: ServeHow): Promise<void> {
  const stop = how.stop ?? new AbortController();
  checkClaims(servings.map(wantsOf));
  endBySignal(stop);
  const servers: VhostUserServer[] = [];
  const logs: ServeLog[] = [];
  const isLive = process.stderr.isTTY && servings.length === 1 && !how.isTerminalTaken;
  const out = how.isTerminalTaken ? process.stderr : process.stdout;
  try {
    for (const { options, device, served, name } of servings) {
      const log = new ServeLog(how.log, { isLive, served, name, out });
      logs.push(log);
      const server = await serveVhostUser({
        socketPath: options.socket,
        connect: options.connect ?? false,
        device,
        signal: stop.signal,
        pollMicroseconds: options.pollUs,
        workers: options.workers ?? 1,
        asOwner: options.asOwner ?? false,
        policy: options.policy,
        memory: options.trustMemory ? "any" : "sealed",
        onEvent: (event) => log.event(event),
      });
      servers.push(server);
      log.watch(server);
    }
    await Promise.all(servers.map(({ closed }) => closed));
  } catch (error) {
    if (!stop.signal.aborted || error !== stop.signal.reason) throw error; // a signal, meanwhile
  } finally {
    stop.abort();
    await Promise.allSettled(servers.map(({ closed }) => closed));
    for (const log of logs) log.close();
  }
}
