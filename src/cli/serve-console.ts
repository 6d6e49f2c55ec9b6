import { Command, InvalidArgumentError } from "commander";
import { type Console, type ConsolePortOptions, console } from "../devices/console.js";
import { joinTerminal } from "./console-terminal.js";
import { type ServeDeviceOptions, serveDevice, withServeOptions } from "./serve-device.js";

/** A port beside the console: its name, and the socket that it is joined to. */
export interface PortAtSocket {
  name: string;
  path: string;
}

interface ServeConsoleOptions extends ServeDeviceOptions {
  unix?: string;
  port: PortAtSocket[];
}

const EXAMPLE = `
Without --unix the console is this terminal's: Ctrl-] ends it. A port is found by its name in a
Linux guest: /dev/virtio-ports/<name>. A VM's memory must be shared with us, and the VM must know
how to have a vhost-user console: QEMU has no device of that name yet.`;

/** `serve console`: a terminal, and ports, for a guest. */
export function consoleCommand(): Command {
  const command = new Command("console")
    .description("A console, on this terminal or at a Unix socket, and other ports.")
    .requiredOption("--socket <path>", "where to listen for the VM (required)")
    .option("--unix <path>", "where programs connect to the console, one at a time")
    .option("--port <name=path>", "another port, and where programs connect to it", parsePort, []);
  return withServeOptions(command).addHelpText("after", EXAMPLE).action(serveConsole);
}

function parsePort(text: string, before: PortAtSocket[]): PortAtSocket[] {
  const [, name, path] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || path === undefined) {
    throw new InvalidArgumentError("It is a name and a path: org.example.agent=/tmp/agent.sock");
  }
  return [...before, { name, path }];
}

async function serveConsole(options: ServeConsoleOptions): Promise<void> {
  const { unix, port: others } = options;
  const ports: ConsolePortOptions[] = [{ console: true }, ...others.map(({ name }) => ({ name }))];
  const device = console({ ports });
  const stop = new AbortController();
  const leave = joinPorts(device, [
    ...(unix === undefined ? [] : [{ name: 0, path: unix }]),
    ...others,
  ]);
  const isTerminalTaken = unix === undefined;
  const served = `a console at ${unix ?? "this terminal; Ctrl-] ends it"}`;
  try {
    if (isTerminalTaken) leave.push(joinTerminal(device, () => stop.abort()));
    await serveDevice(options, device, served, { stop, isTerminalTaken });
  } finally {
    for (const one of leave) one();
  }
}

/** Joins ports to Unix sockets; what ends that. Throws EINVAL, EADDRINUSE, ENOENT, EACCES. */
export function joinPorts(
  device: Console,
  ports: readonly { name: string | number; path: string }[],
): (() => void)[] {
  const leave: (() => void)[] = [];
  try {
    for (const { name, path } of ports) {
      const listener = device.listen(path, name);
      leave.push(() => listener.close());
    }
  } catch (error) {
    for (const one of leave) one();
    throw error;
  }
  return leave;
}
