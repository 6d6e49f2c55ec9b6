// What the commands that take seeds have in common.

import { type Command, CommanderError, InvalidArgumentError } from "commander";

/** A whole number below 2^32, as a seed is, from an argument. Throws `InvalidArgumentError`. */
export function toU32(text: string): number {
  if (/^\d{1,10}$/.test(text) && Number(text) < 2 ** 32) return Number(text);
  throw new InvalidArgumentError("A whole number below 2^32.");
}

/** Runs a command with the process's arguments. Side effect: exit status 2 when one is wrong. */
export async function runCommand(program: Command): Promise<void> {
  program.exitOverride().showHelpAfterError("Run with --help to see what there is.");
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  }
}
