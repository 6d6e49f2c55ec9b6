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

/** Serves `device` until a signal comes. `served`: what it is, in a few words. */
export async function serveDevice(
  options: ServeDeviceOptions,
  device: DeviceSpec,
  served: string,
): Promise<void> {
  const stop = new AbortController();
  const end = () => stop.abort();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, end);
  const log = new ServeLog(options.log, process.stderr.isTTY, served);
  const server = await serveVhostUser({
    socketPath: options.socket,
    device,
    signal: stop.signal,
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
