// The README's device of one's own, served as it says, in front of QEMU.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";
import { describeGuests } from "./lab.js";
import { Program } from "./program.js";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");

/** A block of the README, as it stands there. */
function block(name: string): string {
  const [, code] = new RegExp(`<!-- ${name}: .*-->\n\`\`\`js\n([^\`]*)\`\`\``).exec(readme) ?? [];
  if (code === undefined) throw new Error(`README.md has no block named ${name}`);
  return code;
}

describeGuests("a device of one's own in a real guest", (lab) => {
  test("its dice come out of /dev/hwrng", { timeout: 200_000 }, async () => {
    // Inside the package, so that its own name resolves as it does for those who install it.
    const folder = mkdtempSync(join(ROOT, "dist/readme-"));
    const socket = lab.path("dice.sock");
    try {
      writeFileSync(join(folder, "dice.mjs"), block("dice"));
      const code = block("dice-serve").replace('"dice.sock"', JSON.stringify(socket));
      expect(code).toContain(socket);
      writeFileSync(join(folder, "serve.mjs"), code);
      const program = new Program(lab.tools, process.execPath, [join(folder, "serve.mjs")]);
      await program.until(() => existsSync(socket), "a socket", 30_000);
      const guest = await lab.boot({
        disks: [],
        root: { modules: ["virtio_rng"] },
        more: [
          ...["-chardev", `socket,id=dice,path=${socket}`],
          ...["-device", "vhost-user-rng-pci,chardev=dice"],
        ],
        script: "say dice $(dd if=/dev/hwrng bs=1 count=40 2>/dev/null)",
      });
      expect(guest.value("dice")).toMatch(/^[1-6]{40}$/);
      expect(await program.stop("SIGTERM")).toBe("exit status 0");
      expect(program.stderr).toBe("");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
