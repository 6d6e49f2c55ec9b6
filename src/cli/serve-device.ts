import { type Command, Option } from "commander";
import type { Policy } from "../ring/state-block.js";
import type { DeviceSpec } from "../vhost/device.js";
import { serveVhostUser } from "../vhost-user/server.js";
import { ServeLog } from "./serve-log.js";
import { parseCount } from "./size.js";

const POLL_MICROSECONDS_DEFAULT = 50;
const POLL_MICROSECONDS_MAX = 1_000_000;

/** What every device that is served has as options. */
export interface ServeDeviceOptions {
  socket: string;
  pollUs: number;
  /** Where there may be more than one. */
  workers?: number;
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
    .option("--trust-memory", "take memory that can be truncated: that would end this program")
    .addOption(
      new Option("--policy <name>", "with a broken ring, do what the specification or Linux says")
        .choices(["strict", "linux"])
        .default("strict"),
    )
    .addOption(
      new Option("--log <form>", "what to print").choices(["text", "json"]).default("text"),
    );
}

/** A device, and where it is served. */
export interface Served {
  socketPath: string;
  device: DeviceSpec;
  /** What it is, in a few words. */
  served: string;
}

/** Serves `device` until a signal comes. `served`: what it is, in a few words. */
export async function serveDevice(
  options: ServeDeviceOptions,
  device: DeviceSpec,
  served: string,
): Promise<void> {
  await serveDevices(options, [{ socketPath: options.socket, device, served }]);
}

/** Serves all of them until a signal comes, or one can't be served any more: then none is. */
export async function serveDevices(
  options: Omit<ServeDeviceOptions, "socket">,
  all: readonly Served[],
): Promise<void> {
  const stop = new AbortController();
  const end = () => stop.abort();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, end);
  try {
    await Promise.all(all.map((one) => serveOne(options, one, stop.signal)));
  } finally {
    end();
  }
}

async function serveOne(
  options: Omit<ServeDeviceOptions, "socket">,
  { socketPath, device, served }: Served,
  signal: AbortSignal,
): Promise<void> {
  const log = new ServeLog(options.log, process.stderr.isTTY, served);
  const server = await serveVhostUser({
    socketPath,
    device,
    signal,
    pollMicroseconds: options.pollUs,
    workers: options.workers ?? 1,
    asOwner: options.asOwner ?? false,
    policy: options.policy,
    memory: options.trustMemory ? "any" : "sealed",
    onEvent: (event) => log.event(event),
  });
  log.watch(server);
  try {
    await server.closed;
  } finally {
    log.close();
  }
}
