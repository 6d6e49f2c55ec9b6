// `serve console`: on a terminal, on pipes, at Unix sockets.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { VERSION_1 } from "../helpers/raw-guest.js";
import { missingFile, testWith } from "../helpers/skip.js";
import { ROOT } from "../helpers/source.js";
import { describeVhostUser, eventually } from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const SCRIPT = "/usr/bin/script";
const CTRL_BRACKET = "\x1d";

/** A front-end with the two queues of a console without MULTIPORT. */
async function frontEnd(path: string) {
  const front = new FrontEnd(path);
  await front.negotiate(VERSION_1);
  await front.setMemory();
  const [rx, tx] = [new RawQueue(front, 0), new RawQueue(front, 1)] as const;
  for (const { queue } of [rx, tx]) await front.attach(queue);
  const send = async (text: string) => {
    front.shared.bytes.set(Buffer.from(text), tx.data);
    tx.writeDesc(0, { addr: tx.guest(tx.data), len: text.length, flags: 0, next: 0 });
    tx.offer(0);
    tx.kick();
    await tx.next();
  };
  const receive = async () => {
    rx.writeDesc(0, { addr: rx.guest(rx.data), len: 64, flags: VIRTQ_DESC_F_WRITE, next: 0 });
    rx.offer(0);
    rx.kick();
    const [, length] = await rx.next();
    return Buffer.from(front.shared.bytes.slice(rx.data, rx.data + length)).toString();
  };
  return { send, receive, [Symbol.dispose]: () => front.close() };
}

const LOST = "nobody reads this";

/** Connects until it is taken, which it is not before whoever had the port is gone; says a word. */
class Client {
  got = "";
  #isClosed = false;
  #socket!: Socket;

  constructor(path: string, word: string) {
    const connectOnce = () => {
      if (this.#isClosed) return;
      this.#socket = connect(path);
      this.#socket.on("data", (bytes) => {
        this.got += bytes;
      });
      this.#socket.on("error", () => {}).on("close", connectOnce);
      this.#socket.write(word);
    };
    connectOnce();
  }

  close(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }
}

describeVhostUser("vhost-wasm serve console", () => {
  test("on pipes: the console's bytes alone on them, and what is told beside", async () => {
    const socket = join(folder, "pipes.sock");
    await using program = Program.cli("serve", "console", "--socket", socket);
    await eventually(() => program.stderr.includes("listening"), "listening");
    using guest = await frontEnd(socket);
    await guest.send("login:\n");
    program.say("root");
    expect(await guest.receive()).toBe("root\n");
    program.child.kill("SIGTERM");
    const { code, stdout, stderr } = await program.outcome();
    expect({ code, stdout }).toEqual({ code: 0, stdout: "login:" });
    expect(stderr).toMatch(
      /serves a console at this terminal; Ctrl-\] ends it\n(.*\n)*.*connected/,
    );
  });

  testWith(missingFile(SCRIPT), "on a terminal: as it is typed, until Ctrl-]", async () => {
    const socket = join(folder, "tty.sock");
    const command = `${process.execPath} dist/cli/main.js serve console --socket ${socket}`;
    await using program = new Program(SCRIPT, ["-qefc", command, "/dev/null"], { cwd: ROOT });
    let screen = "";
    program.child.stdout?.on("data", (bytes) => {
      screen += bytes;
    });
    await eventually(() => screen.includes("listening"), "listening");
    using guest = await frontEnd(socket);
    await guest.send("login: ");
    await eventually(() => screen.endsWith("login: "), "a prompt");
    program.child.stdin?.write("ls\r\x03"); // no line, no signal: the guest's
    let typed = "";
    while (typed.length < 4) typed += await guest.receive();
    expect(typed).toBe("ls\r\x03");
    program.child.stdin?.write(CTRL_BRACKET);
    expect((await program.outcome()).code).toBe(0);
    expect(existsSync(socket)).toBe(false);
  });

  test("at a socket: who connects has it, and after him the next", async () => {
    const socket = join(folder, "at.sock");
    const [unix, agent] = [join(folder, "unix"), join(folder, "agent")];
    const args = ["--unix", unix, "--port", `org.example.agent=${agent}`];
    await using program = Program.cli("serve", "console", "--socket", socket, ...args);
    await program.next("text");
    using guest = await frontEnd(socket);
    for (const word of ["one", "two"]) {
      const came = guest.receive();
      const client = new Client(unix, `${word}?`);
      expect(await came).toBe(`${word}?`);
      await guest.send(`${word}!`);
      await eventually(() => client.got.endsWith(`${word}!`), "an answer");
      // what was for the one before may still have been on its way
      expect(client.got.replace(LOST, "")).toBe(`${word}!`);
      client.close();
      await guest.send(LOST); // and nobody waits for it
    }
    program.child.kill("SIGINT");
    expect((await program.outcome()).code).toBe(0);
    expect([unix, agent, socket].filter((path) => existsSync(path))).toEqual([]);
  });

  test.each([["--port", "agent"], ["--port", "=x"], []])("refused: %s %s", async (...words) => {
    const more = words.length === 0 ? ["--unix", join(folder, "no/where")] : words;
    const socket = join(folder, "refused.sock");
    const outcome = await Program.cli("serve", "console", "--socket", socket, ...more).outcome();
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(words.length === 0 ? /ENOENT/ : /a name and a path/);
    expect(existsSync(socket)).toBe(false);
  });
});
