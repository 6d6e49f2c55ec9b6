// Unix sockets for a guest's ports, in the convention of Firecracker and vhost-device-vsock.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { afterAll, expect, test } from "vitest";
import { Kernel, vsock } from "#dist/index.js";
import { libcIfAny } from "#dist/linux/libc.js";
import { rejected } from "../helpers/devices.js";
import { testWith } from "../helpers/skip.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;

async function open() {
  const path = join(folder, `vsock-${count}`);
  const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const host = vsock({ cid: 1000 + count++, unix: path });
  const device = await process.open(host);
  const guest = await device.driver();
  return { path, process, host, device, guest, [Symbol.asyncDispose]: () => process.exit() };
}

async function all(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk) => chunks.push(chunk));
  await once(stream, "end");
  return Buffer.concat(chunks);
}

const closed = (stream: Duplex) => new Promise((resolve) => stream.once("close", resolve));

/** A client of the host's side, whose other way stays open when one ends. */
const dial = (path: string): Socket => connect({ path, allowHalfOpen: true }).on("error", () => {});

test("CONNECT <port> is answered with OK <port>, and joined to the guest", async () => {
  await using both = await open();
  both.guest.listen(52, async (stream) => {
    expect(stream.localPort).toBe(52);
    const got = await all(stream);
    stream.end(Buffer.concat([Buffer.from(`${stream.remotePort} `), got]));
  });
  const sent = randomBytes(1_000_000);
  const client = dial(both.path);
  client.write("CONN");
  client.write(Buffer.concat([Buffer.from("ECT 52\n"), sent]));
  client.end();
  const answer = await all(client);
  const end = answer.indexOf("\n");
  const [, port] = /^OK (\d+)$/.exec(String(answer.subarray(0, end))) ?? [];
  const expected = Buffer.concat([Buffer.from(`${port} `), sent]);
  expect(answer.subarray(end + 1).equals(expected)).toBe(true);
});

test.each([
  ["CONNECT 53\n", "a port that nobody listens at"],
  ["connect 52\n", "another word"],
  ["CONNECT 99999999999\n", "no port"],
  ["CONNECT 4294967295\n", "no port"],
  ["x".repeat(100), "no line"],
  ["CONNECT", "an end"],
])("%j, %s: closed without a word", async (line) => {
  await using both = await open();
  both.guest.listen(52, (stream) => stream.end());
  const client = dial(both.path);
  if (line === "CONNECT") client.end(line);
  else client.write(line);
  expect(await all(client).catch(() => Buffer.alloc(0))).toHaveLength(0);
});

test("what the guest connects to is <path>_<port>, or refused", async () => {
  await using both = await open();
  await rejected("ECONNREFUSED", both.guest.connect(2, 1234, { timeoutMs: 20_000 }));
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await once(server.listen(`${both.path}_1234`), "listening");
  const sent = randomBytes(700_000);
  const stream = await both.guest.connect(2, 1234, { timeoutMs: 20_000 });
  stream.end(sent);
  expect((await all(stream)).equals(sent)).toBe(true);
  both.host.listen(1235, (own) => own.resume().end("the program's own"));
  const own = await both.guest.connect(2, 1235, { timeoutMs: 20_000 });
  own.end();
  expect(String(await all(own))).toBe("the program's own");
  server.close();
});

test("who leaves, on either side, takes the other along", async () => {
  await using both = await open();
  const streams: Duplex[] = [];
  both.guest.listen(52, (stream) => {
    streams.push(stream.on("error", () => {}).resume());
    stream.write("hello");
  });
  const [one, two] = [dial(both.path), dial(both.path)];
  for (const client of [one, two]) {
    client.write("CONNECT 52\n");
    await once(client, "data");
  }
  await expect.poll(() => streams.length).toBe(2);
  two.resume();
  const gone = closed(streams[0] as Duplex);
  one.destroy();
  streams[0]?.write(Buffer.alloc(100_000));
  await gone;
  streams[1]?.destroy(new Error("enough"));
  await once(two, "end");
});

const missing = libcIfAny() === null ? "the package koffi" : undefined;

testWith(missing, "a socket that a killed program has left is taken", async () => {
  const path = join(folder, "stale");
  const listen = `require("node:net").createServer().listen(${JSON.stringify(path)}, die)`;
  const code = `const die = () => process.kill(process.pid, 9); ${listen}`;
  spawnSync(process.execPath, ["-e", code]);
  expect(existsSync(path)).toBe(true);
  const owner = new Kernel().spawn({ memoryBytes: 8 << 20 });
  await owner.open(vsock({ cid: 901, unix: path }));
  const client = dial(path);
  await once(client, "connect");
  client.destroy();
  await owner.exit();
});

test("the socket goes with the device; one that is there already is not taken", async () => {
  const { path, process, host } = await open();
  const client = dial(path);
  await once(client, "connect");
  await process.exit();
  await once(client.resume(), "end");
  expect(existsSync(path)).toBe(false);
  writeFileSync(path, "");
  const other = new Kernel().spawn();
  await rejected("EADDRINUSE", other.open(host));
  await rejected("ENOENT", other.open(vsock({ cid: 900, unix: join(folder, "no", "x") })));
  expect(() => vsock({ cid: 900, unix: "x".repeat(97) })).toThrow(/^ENAMETOOLONG: /);
  expect(() => vsock({ cid: 900, unix: "" })).toThrow(/^EINVAL: /);
  await other.exit();
});
