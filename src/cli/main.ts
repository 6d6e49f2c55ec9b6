#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command } from "commander";
import { VhostError } from "../spec/errno.js";
import { demoCommand } from "./demo.js";
import { explainCommand } from "./explain.js";
import { serveCommand } from "./serve.js";

const { version } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
);

const program = new Command("vhost-wasm")
  .description(
    "A virtio data-path engine: virtqueues in WebAssembly, devices in TypeScript,\n" +
      "and workers that belong to the process that owns the device.",
  )
  .version(version)
  .showHelpAfterError("Run with --help to see what there is.")
  .configureHelp({ helpWidth: 100 });
program.addCommand(demoCommand().copyInheritedSettings(program));
program.addCommand(explainCommand().copyInheritedSettings(program));
program.addCommand(serveCommand().copyInheritedSettings(program));

for (const stream of [process.stdout, process.stderr]) {
  // Whoever reads may go: that ends us quietly. All else is said once, if there is still a way.
  stream.on("error", ({ code, message }: NodeJS.ErrnoException) => {
    if (code !== "EPIPE" && stream === process.stdout) console.error(`vhost-wasm: ${message}`);
    process.exit(code === "EPIPE" ? 0 : 1);
  });
}

try {
  await program.parseAsync();
} catch (error) {
  // One line for what a person can mend; the stack only for what is a mistake of ours.
  const isExpected = error instanceof VhostError || process.env.DEBUG === undefined;
  console.error(`vhost-wasm: ${isExpected ? (error as Error).message : (error as Error).stack}`);
  process.exitCode = 1;
}
