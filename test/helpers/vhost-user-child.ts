// Programs of their own that serve or connect, for tests.

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { ROOT } from "./source.js";
import { eventually } from "./vhost-user.js";

/** A line that a program prints: JSON, an event by its name. */
export type Line = { event: string; server?: number } & Record<string, unknown>;

/** A program that prints lines of JSON and reads words. */
export class Program implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly lines: Line[] = [];
  stderr = "";
  #next = 0;

  constructor(command: string, args: string[], options: SpawnOptions = {}) {
    this.child = spawn(command, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
    const { stdout, stderr } = this.child;
    if (stdout) createInterface({ input: stdout }).on("line", (line) => this.#take(line));
    stderr?.on("data", (data) => {
      this.stderr += data;
    });
    this.child.stdin?.on("error", () => {});
  }

  #take(line: string): void {
    this.lines.push(line.startsWith("{") ? JSON.parse(line) : { event: "text", line });
  }

  /** A program of this folder, by its file's name. */
  static script(name: string, args: string[], options: SpawnOptions = {}): Program {
    const path = fileURLToPath(new URL(name, import.meta.url));
    return new Program(process.execPath, [path, ...args], options);
  }

  /** The command line, with those arguments. */
  static cli(...args: string[]): Program {
    return new Program(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args]);
  }

  /** What it has printed, and its exit code, when it has ended. */
  async outcome(): Promise<{ code: number | string; stdout: string; stderr: string }> {
    const { stdout, stderr } = this.child;
    await Promise.all(
      [stdout, stderr].map((stream) => stream?.closed || once(stream as never, "close")),
    );
    const code = await this.end();
    const lines = this.lines.map((line) => line.line ?? JSON.stringify(line));
    return { code, stdout: lines.join("\n"), stderr: this.stderr };
  }

  /** The next line of that event: of those after the one that was asked for last. */
  async next(event: string, ms?: number): Promise<Line> {
    const find = () => this.lines.findIndex((one, i) => i >= this.#next && one.event === event);
    const isSilent = () => this.isOver && this.child.stdout?.closed !== false;
    const hasFailed = () => isSilent() || this.lines.some((one) => one.event === "failed");
    const what = () => `${event} (${this.#told()})`;
    await eventually(() => find() >= 0 || hasFailed(), what, ms);
    if (find() < 0) throw new Error(`failed before ${what()}`);
    this.#next = find() + 1;
    return this.lines[this.#next - 1] as Line;
  }

  #told(): string {
    return `${this.lines.slice(-20).map((line) => JSON.stringify(line))} ${this.stderr}`;
  }

  get isOver(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  say(word: string): void {
    this.child.stdin?.write(`${word}\n`);
  }

  /** Its exit code, or the signal that ended it. */
  async end(ms?: number): Promise<number | string> {
    await eventually(
      () => this.isOver,
      () => `the end of the program (${this.#told()})`,
      ms,
    );
    return this.child.exitCode ?? (this.child.signalCode as string);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isOver) return;
    const exit = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exit;
  }
}

/** What a program is started in. */
interface Around {
  /** Descriptors that it may have. */
  fdsMax?: number;
  /** A command that starts it. */
  under?: string[];
}

/** A program with `count` servers in a folder of its own; see vhost-user-program.mjs. */
export class Serving implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
  readonly paths: string[];
  readonly program: Program;

  private constructor(count: number, options: object, { fdsMax, under = [] }: Around) {
    this.paths = Array.from({ length: count }, (_, i) => join(this.folder, `socket-${i}`));
    const script = fileURLToPath(new URL("vhost-user-program.mjs", import.meta.url));
    const settings = JSON.stringify({ more: join(this.folder, "more"), fdsMax, ...options });
    const words = [process.execPath, script, settings, ...this.paths];
    const [command, ...args] = [...under, ...words] as [string, ...string[]];
    this.program = new Program(command, args);
  }

  /** Resolves when all listen. */
  static async start(count = 1, options: object = {}, around: Around = {}): Promise<Serving> {
    const serving = new Serving(count, options, around);
    try {
      for (let i = 0; i < count; i++) await serving.program.next("listening");
      return serving;
    } catch (error) {
      await serving[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
