// Many MiB each way over a real guest's AF_VSOCK, and many connections at once. How fast it went is
// printed.

import { createHash, randomBytes } from "node:crypto";
import { type Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { expect, test } from "vitest";
import { serveVhostUser, type Vsock, vsock } from "#dist/index.js";
import { describeGuests, MIB } from "./lab.js";
import { perl, SKIPS_PERL, TALK, titleOf, vsockArguments } from "./vsock-guest.js";

const LIMIT = { timeout: 200_000 };
const MIBS = 100;
/** Connections at once, each with a MiB there and back. */
const CONNECTIONS = 40;

// Ports of the host's.
/** Takes what the guest sends, and answers with its SHA-256. */
const PUSH = 1;
/** Sends. */
const PULL = 2;
const ECHO = 3;

/** Numbered MiBs go out: one that is lost, or comes twice, is seen. */
const SCRIPT = `
  ${TALK}
  dd if=/dev/urandom of=/tmp/piece bs=64k count=16 2>/dev/null
  stream() {
    local i=0
    while [ $i -lt $1 ]; do echo $2 $i; cat /tmp/piece; i=$((i + 1)); done
  }
  say sent $(stream ${MIBS} all | sum)
  say came $(stream ${MIBS} all | perl /talk connect ${PUSH})
  say pulled $(perl /talk connect ${PULL} </dev/null | sum)
  i=0
  while [ $i -lt ${CONNECTIONS} ]; do
    stream 1 $i | sum >/tmp/there$i
    stream 1 $i | perl /talk connect ${ECHO} | sum >/tmp/back$i &
    i=$((i + 1))
  done
  wait
  say there "$(cat /tmp/there* | sum)"
  say back "$(cat /tmp/back* | sum)"
`;

/** How fast each was, from its first byte to its last, and what this process had of a core. */
class Speeds {
  readonly #lines: string[] = [];

  async time(what: string, MIBS: number, run: () => Promise<void>): Promise<void> {
    const start = performance.now();
    const cpu = process.cpuUsage();
    await run();
    const seconds = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const part = (user + system) / 1e6 / seconds;
    this.#lines.push(`${what} ${(MIBS / seconds).toFixed(0)} MiB/s, ${part.toFixed(2)} of a core`);
  }

  toString(): string {
    return this.#lines.join("; ");
  }
}

async function takeAll(stream: Duplex): Promise<void> {
  const hash = createHash("sha256");
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) hash.update(chunk);
  stream.end(hash.digest("hex"));
}

/** Serves all three ports; `sums` gets what was sent. */
function serve(host: Vsock, speeds: Speeds, sums: string[]): void {
  host.listen(PUSH, (stream) => void speeds.time("from the guest", MIBS, () => takeAll(stream)));
  host.listen(PULL, (stream) => {
    const hash = createHash("sha256");
    const piece = randomBytes(MIB);
    const pieces = Array.from({ length: MIBS }, (_, i) => Buffer.from(piece).fill(i, 0, 4));
    for (const one of pieces) hash.update(one);
    sums.push(hash.digest("hex"));
    void speeds.time("to the guest", MIBS, () => pipeline(Readable.from(pieces), stream));
  });
  host.listen(ECHO, (stream) => stream.pipe(stream));
}

describeGuests(titleOf("a real guest's sockets under load"), (lab) => {
  test.skipIf(SKIPS_PERL)(`${MIBS} MiB each way`, LIMIT, async () => {
    const host = vsock({ cid: 44, queueSize: 1024 });
    const speeds = new Speeds();
    const sums: string[] = [];
    serve(host, speeds, sums);
    const socketPath = lab.path("socket");
    const server = await serveVhostUser({ socketPath, device: host, pollMicroseconds: 50 });
    await using _ = server;
    const guest = await lab.boot({
      disks: [],
      root: { modules: ["vmw_vsock_virtio_transport"], files: perl() },
      more: vsockArguments(socketPath, "split"),
      script: SCRIPT,
      limitMs: 150_000,
    });
    console.log(`vsock: ${speeds}`);
    expect(guest.value("came")).toBe(guest.value("sent"));
    expect(sums).toEqual([guest.value("pulled")]);
    expect(guest.value("back")).toBe(guest.value("there"));
  });
});
