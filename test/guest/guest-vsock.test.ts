// A Linux guest's own AF_VSOCK over `vhost-wasm serve vsock`, with QEMU's vhost-user-vsock-pci.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";
import { describeGuests, type Lab, MIB, sha256 } from "./lab.js";
import { Program } from "./program.js";
import { perl, SKIPS_PERL, TALK, titleOf, vsockArguments } from "./vsock-guest.js";

const LIMIT = { timeout: 200_000 };
/** Port 1234 of the host echoes; ours, 52, does so for two connections. Port 9 is nobody's. */
const SCRIPT = `
  ${TALK}
  say refused "$(perl /talk connect 9)"
  dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null
  say sent $(sum </tmp/data)
  say back $(perl /talk connect 1234 </tmp/data | sum)
  perl /talk listen 52 2
`;

async function startBackEnd(lab: Lab, cid: number) {
  const [socket, unix] = [lab.path("socket"), lab.path("unix")];
  const args = [join(ROOT, "dist/cli/main.js"), "serve", "vsock", "--socket", socket];
  args.push("--cid", String(cid), "--unix", unix);
  const program = new Program(lab.tools, process.execPath, args);
  await program.until(() => program.stdout.includes("listening"), "listening", 30_000);
  return { program, socket, unix };
}

/** Sends `bytes` to the guest's port 52; what comes back. */
async function echoed(unix: string, bytes: Uint8Array): Promise<Buffer> {
  const client: Socket = connect({ path: unix, allowHalfOpen: true });
  client.write("CONNECT 52\n");
  const [answer] = await once(client, "data");
  expect(String(answer)).toMatch(/^OK \d+\n$/);
  const chunks: Buffer[] = [];
  client.on("data", (chunk) => chunks.push(chunk)).end(bytes);
  await once(client, "end");
  return Buffer.concat(chunks);
}

describeGuests(titleOf("a real guest's sockets"), (lab) => {
  test.skipIf(SKIPS_PERL).each(["split", "packed"])("both ways, %s", LIMIT, async (format) => {
    const cid = format === "packed" ? 43 : 42;
    const { program, socket, unix } = await startBackEnd(lab, cid);
    const server = createServer({ allowHalfOpen: true }, (one) => one.pipe(one));
    try {
      await once(server.listen(`${unix}_1234`), "listening");
      const guest = lab.start({
        disks: [],
        root: { modules: ["vmw_vsock_virtio_transport"], files: perl() },
        more: vsockArguments(socket, format),
        script: SCRIPT,
        limitMs: 90_000,
      });
      await guest.until("listening");
      const sent = [randomBytes(10), randomBytes(2 * MIB)];
      for (const bytes of sent) expect(sha256(await echoed(unix, bytes))).toBe(sha256(bytes));
      await guest.finish();
      expect(guest.value("refused")).toMatch(/^Connection re(set by peer|fused)$/);
      expect(guest.value("back")).toBe(guest.value("sent"));
    } finally {
      server.close();
      expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
    }
  });
});
