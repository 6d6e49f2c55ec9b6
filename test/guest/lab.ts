// A place for tests with real guests: made when the first one runs, and empty after the last one.

import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, test } from "vitest";
import { BackEnd, type ServedDisk } from "./back-end.js";
import { makeInitramfs } from "./initramfs.js";
import { unpackKernel } from "./kernel.js";
import { Guest, type GuestHome, type GuestOptions } from "./qemu.js";
import { findRequirements, GUEST_REQUIRED, type GuestTools } from "./requirements.js";

/** 2^20 bytes. */
export const MIB = 1 << 20;

/** In hexadecimal digits, as `sum` prints it in a guest. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A line over and over, cut at `sizeBytes`: as `yes` prints it in a guest. */
export function pattern(line: string, sizeBytes: number): Buffer {
  return Buffer.alloc(sizeBytes, `${line}\n`);
}

/** Where bytes differ from what they should be; `undefined` when they don't. */
export function difference(actual: Uint8Array, expected: Uint8Array): string | undefined {
  if (Buffer.compare(actual, expected) === 0) return undefined;
  const at = expected.findIndex((byte, index) => byte !== actual[index]);
  return `${actual.length} bytes for ${expected.length}, different at ${at < 0 ? "the end" : at}`;
}

/** What a test with real guests works with. What it leaves running is killed after it. */
export class Lab {
  readonly #guests: Guest[] = [];
  readonly #backEnds: BackEnd[] = [];
  #home: GuestHome | undefined;
  #count = 0;

  /** Throws before the first test. */
  get home(): GuestHome {
    if (!this.#home) throw new Error("the lab is open within tests only");
    return this.#home;
  }

  get tools(): GuestTools {
    return this.home.tools;
  }

  /** Makes what all guests share; takes a second. */
  open(tools: GuestTools): void {
    const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-guest-"));
    const kernel = unpackKernel(tools.kernel, join(folder, "vmlinux"));
    this.#home = { tools, folder, kernel, initramfs: makeInitramfs(tools) };
  }

  /** A path for a file that doesn't exist yet. */
  path(name: string): string {
    return join(this.home.folder, `${this.#count++}-${name}`);
  }

  /** Starts a back-end; `stop` it at the end of the test, to see that it ends cleanly. */
  async serve(disk: ServedDisk): Promise<BackEnd> {
    const backEnd = await BackEnd.start(this.tools, this.path("socket"), disk);
    this.#backEnds.push(backEnd);
    return backEnd;
  }

  /** Starts a guest, to be watched or killed. */
  start(options: GuestOptions): Guest {
    const guest = new Guest(this.home, options);
    this.#guests.push(guest);
    return guest;
  }

  /** Starts a guest and waits until it has switched itself off. Rejects when anything failed. */
  boot(options: GuestOptions): Promise<Guest> {
    return this.start(options).finish();
  }

  /** Kills what still runs. */
  async clear(): Promise<void> {
    const programs = [...this.#guests.splice(0), ...this.#backEnds.splice(0)];
    await Promise.all(programs.map(({ program }) => program.stop("SIGKILL")));
  }

  /** Removes every file. */
  close(): void {
    if (this.#home) rmSync(this.#home.folder, { recursive: true, force: true });
  }
}

/**
 * What QEMU 10.0 says, rarely, when it aborts by itself while a guest of two CPUs boots under TCG,
 * whatever its devices are: then, and only then, the test is begun again.
 */
const QEMU_BUG = /qemu-system-x86_64: .*iotlb_to_section: Assertion/;

/**
 * A group of tests with real guests. What the machine lacks is in the name of the group, and its
 * tests are skipped; with `VHOST_WASM_REQUIRE_GUEST=1` they fail.
 */
export function describeGuests(title: string, addTests: (lab: Lab) => void): void {
  const { tools, missing } = findRequirements();
  const lab = new Lab();
  if (!tools) {
    const reason = `${title} (missing: ${missing.join(", ")})`;
    if (GUEST_REQUIRED) {
      test(reason, () => {
        throw new Error("run test/guest/packages.sh, or unset VHOST_WASM_REQUIRE_GUEST");
      });
    } else {
      console.warn(`skipped: ${reason}`);
      describe.skip(reason, () => addTests(lab));
    }
    return;
  }
  describe(title, { retry: { count: 2, condition: QEMU_BUG } }, () => {
    beforeAll(() => lab.open(tools), 60_000);
    afterEach(() => lab.clear(), 60_000);
    afterAll(() => lab.close());
    addTests(lab);
  });
}
