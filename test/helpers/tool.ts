import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "./source.js";

/** Runs a program; gives what it prints, which is the message when it fails. */
export async function runProgram(file: string, args: string[], cwd = ROOT): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(file, args, { cwd });
    return stdout;
  } catch (error) {
    const { message, stdout, stderr } = error as Error & { stdout: string; stderr: string };
    throw new Error(`${message}\n${stdout}${stderr}`);
  }
}

/** Runs a tool that the project depends on. */
export function runTool(tool: string, args: string[], cwd = ROOT): Promise<string> {
  return runProgram(join(ROOT, "node_modules/.bin", tool), args, cwd);
}
