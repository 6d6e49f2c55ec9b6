// QEMU's monitor, as far as a migration needs it.

import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** A connection to the monitor of a QEMU that was started with `-qmp unix:PATH,server=on`. */
export class Qmp implements Disposable {
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<string>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  /** Connects as soon as QEMU listens at `path`. */
  static async connect(path: string): Promise<Qmp> {
    for (let tries = 300; ; tries--) {
      try {
        const socket = await new Promise<Socket>((resolve, reject) => {
          const made = createConnection(path, () => resolve(made)).once("error", reject);
        });
        const qmp = new Qmp(socket);
        await qmp.run("qmp_capabilities");
        return qmp;
      } catch (error) {
        if (tries === 0) throw error;
        await sleep(100);
      }
    }
  }

  /** Runs a command; what it returns. Rejects with what QEMU says is wrong. */
  async run(execute: string, args: object = {}): Promise<Record<string, unknown>> {
    this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await this.#answers.next();
      if (done) throw new Error(`${execute}: QEMU hung up`);
      const answer = JSON.parse(value) as Record<string, Record<string, unknown>>;
      if (answer.error) throw new Error(`${execute}: ${JSON.stringify(answer.error)}`);
      if (answer.return) return answer.return;
    }
  }

  /** Moves the guest to the QEMU that waits at `uri`. Rejects when that fails. */
  async migrate(uri: string): Promise<void> {
    await this.run("migrate", { uri });
    for (;;) {
      const { status, "error-desc": why } = await this.run("query-migrate");
      if (status === "completed") return;
      if (status === "failed") throw new Error(`migration: ${why}`);
      await sleep(50);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
