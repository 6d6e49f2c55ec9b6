import { once } from "node:events";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { MessageChannel } from "node:worker_threads";
import { Kernel, vsock } from "#dist/index.js";
import type { RingKind } from "#dist/ring/load.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { tempFolder } from "./temp-folder.js";

/** What is inside the timed part. */
export const VSOCK_NOTE = `One stream, one way, both ends in this thread: from the first write to
the arrival of the last byte, as fast as the writer is told to go on. An item is one write.
vsock, ts    driver.connect(2, port) to vsock.listen(port, …); the device's worker is a thread
Unix socket  node:net, the same writes and reads
MessagePort  a message with a copy of the bytes for each write, all at once`;

const WRITE_BYTES = [4096, 65536];
/** Of what arrives, a byte for so many is looked at. */
const LOOK_BYTES = 1024;
const PORT = 1;

/** A stream to write to, and the other end of it. */
interface Pair extends AsyncDisposable {
  writer: Duplex;
  reader: Duplex;
}

/** The process is the caller's. */
async function vsockPair(owner: ReturnType<Kernel["spawn"]>, ring: RingKind): Promise<Pair> {
  const host = vsock({ cid: ring === "wasm" ? 3 : 4 });
  const device = await owner.open(host, { ring });
  const driver = await device.driver();
  const reader = new Promise<Duplex>((resolve) => host.listen(PORT, resolve));
  const writer = await driver.connect(2, PORT);
  return {
    writer,
    reader: await reader,
    [Symbol.asyncDispose]: async () => {
      for (const end of [writer, await reader]) end.on("error", () => {}).destroy();
      await device.close();
    },
  };
}

async function unixPair(): Promise<Pair> {
  const folder = tempFolder(tmpdir());
  const server = createServer().listen(join(folder.path, "socket"));
  await once(server, "listening");
  const writer = connect(join(folder.path, "socket"));
  const [reader] = (await once(server, "connection")) as [Duplex];
  return {
    writer,
    reader,
    [Symbol.asyncDispose]: async () => {
      for (const end of [writer, reader]) end.destroy();
      server.close();
      folder[Symbol.dispose]();
    },
  };
}

/** What is written: bytes that differ from place to place. */
function payload(bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i >> 5) * 31 + i));
}

/** Adds up a byte now and then, wherever the pieces are cut. */
class Checksum {
  value = 0;
  bytes = 0;

  add(chunk: Uint8Array): void {
    let at = -this.bytes & (LOOK_BYTES - 1);
    for (; at < chunk.length; at += LOOK_BYTES) {
      this.value = (Math.imul(this.value, 31) + (chunk[at] as number)) | 0;
    }
    this.bytes += chunk.length;
  }
}

function streamWork(name: string, { writer, reader }: Pair, writeBytes: number, count: number) {
  const chunk = payload(writeBytes);
  const sum = new Checksum();
  const run = async () => {
    const until = sum.bytes + count * writeBytes;
    const start = performance.now();
    const arrived = new Promise<void>((resolve) => {
      const take = (piece: Buffer) => {
        sum.add(piece);
        if (sum.bytes < until) return;
        reader.off("data", take);
        resolve();
      };
      reader.on("data", take);
    });
    for (let i = 0; i < count; i++) if (!writer.write(chunk)) await once(writer, "drain");
    await arrived;
    return performance.now() - start;
  };
  return { name, isAsync: true, run, checksum: () => sum.value } satisfies Work;
}

function messageWork(channel: MessageChannel, writeBytes: number, count: number): Work {
  const chunk = new Uint8Array(payload(writeBytes));
  const sum = new Checksum();
  const run = async () => {
    const until = sum.bytes + count * writeBytes;
    const start = performance.now();
    const arrived = new Promise<void>((resolve) => {
      channel.port2.removeAllListeners("message").on("message", (piece: Uint8Array) => {
        sum.add(piece);
        if (sum.bytes >= until) resolve();
      });
    });
    for (let i = 0; i < count; i++) channel.port1.postMessage(chunk);
    await arrived;
    return performance.now() - start;
  };
  return { name: "MessagePort", isAsync: true, run, checksum: () => sum.value };
}

/** Streams of bytes between two ends. Everything that it opens is closed when it is over. */
export async function benchVsock(amount: Amount): Promise<Case[]> {
  await using owner = new Kernel().spawn({ comm: "bench", memoryBytes: 64 << 20 });
  const channel = new MessageChannel();
  const cases: Case[] = [];
  for (const bytes of WRITE_BYTES) {
    await using wasm = await vsockPair(owner, "wasm");
    await using ts = await vsockPair(owner, "ts");
    await using unix = await unixPair();
    const works = [
      streamWork("vsock", wasm, bytes, amount.items),
      streamWork("ts", ts, bytes, amount.items),
      streamWork("Unix socket", unix, bytes, amount.items),
      messageWork(channel, bytes, amount.items),
    ];
    const measured = await compare(works, amount);
    const sameWork = works.map(({ name }) => name);
    cases.push({
      bench: "vsock",
      name: `writes of ${bytes} bytes`,
      facts: { bytes },
      sameWork,
      measured,
    });
  }
  channel.port1.close();
  return cases;
}
