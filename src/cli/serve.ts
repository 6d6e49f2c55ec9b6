import { Command, InvalidArgumentError, Option } from "commander";
import { blkCommand } from "./serve-blk.js";
import { serveConfig } from "./serve-config.js";
import { consoleCommand } from "./serve-console.js";
import { netCommand } from "./serve-net.js";
import { rngCommand } from "./serve-rng.js";
import { vsockCommand } from "./serve-vsock.js";

const EXAMPLE = `
A file of --config names its devices, each with the options of its command, and with paths from the
file's folder:
  { "devices": [
    { "kind": "blk", "socket": "disk.sock", "image": "disk.img" },
    { "kind": "rng", "socket": "rng.sock", "rate": "1K" } ] }`;

/** `serve`: devices for virtual machines. */
export function serveCommand(): Command {
  const command = new Command("serve").description(
    "Serve devices to virtual machines over vhost-user (Linux, with the package koffi).",
  );
  command
    .option("--config <file>", "serve all devices that a JSON file names, in this process")
    .addHelpText("after", EXAMPLE)
    .argument("[device]", "one of those below")
    .action(async (kind: string | undefined, { config }: { config?: string }) => {
      const kinds = command.commands.map((one) => one.name()).join(", ");
      if (kind !== undefined) command.error(`error: there is no device ${kind}, but ${kinds}`);
      if (config === undefined) command.help({ error: true });
      else await serveConfig(config);
    });
  command.hook("preSubcommand", (_, device) => {
    const { config } = command.opts();
    if (config !== undefined) command.error(`error: ${withoutConfig(device.name())}`);
  });
  const commands = [blkCommand(), consoleCommand(), netCommand(), rngCommand(), vsockCommand()];
  for (const one of commands) {
    one.addOption(
      new Option("--config <file>").hideHelp().argParser(() => {
        throw new InvalidArgumentError(withoutConfig(one.name()));
      }),
    );
    command.addCommand(one.copyInheritedSettings(command));
  }
  return command;
}

const withoutConfig = (name: string) =>
  `a file of --config names all devices: leave ${name} and its options away, or --config`;
