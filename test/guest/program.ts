// A program that runs beside a test, and never longer than it.

import { type ChildProcess, spawn } from "node:child_process";
import type { GuestTools } from "./requirements.js";

/** A running program, its output, and its end. It is killed when the process of the test ends. */
export class Program {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  /** "exit status N" or "signal NAME"; `undefined` as long as it runs. */
  end: string | undefined;
  /** Resolves with `end`, when all output has been read too. */
  readonly ended: Promise<string>;
  readonly #watchers = new Set<() => void>();

  constructor(tools: GuestTools, file: string, args: string[]) {
    this.child = spawn(tools.setpriv, ["--pdeathsig", "KILL", file, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.#tell();
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
      this.#tell();
    });
    this.ended = new Promise((resolve) => {
      const finish = (end: string) => {
        this.end = end;
        resolve(end);
        this.#tell();
      };
      this.child.once("error", (error) => finish(error.message));
      this.child.once("close", (code, signal) =>
        finish(signal ? `signal ${signal}` : `exit status ${code}`),
      );
    });
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher();
  }

  /**
   * Waits until `isMet`, which is asked after each output, and now and then. Rejects when the
   * program ends first, or when `limitMs` have passed: then it runs on. `what` is a noun.
   */
  until(isMet: () => boolean, what: string, limitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (action: () => void) => {
        clearTimeout(timer);
        clearInterval(poll);
        this.#watchers.delete(watcher);
        action();
      };
      const watcher = () => {
        if (isMet()) settle(resolve);
        else if (this.end) settle(() => reject(new Error(`${this.end}, without ${what}`)));
      };
      const late = () => reject(new Error(`no ${what} within ${limitMs / 1000} s`));
      const timer = setTimeout(() => settle(late), limitMs);
      const poll = setInterval(watcher, 50);
      this.#watchers.add(watcher);
      watcher();
    });
  }

  /** Sends a signal and waits for the end. After `limitMs` it sends SIGKILL. */
  async stop(signal: NodeJS.Signals, limitMs = 10_000): Promise<string> {
    if (!this.end) this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill("SIGKILL"), limitMs);
    const end = await this.ended;
    clearTimeout(timer);
    return end;
  }
}
