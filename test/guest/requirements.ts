// What it takes to boot a real guest, and what of it this machine lacks.

import { execFileSync } from "node:child_process";
import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Paths of the programs and files that real guests need. */
export interface GuestTools {
  qemu: string;
  /** Starts a program that dies with its parent. */
  setpriv: string;
  /** Statically linked, for x86-64: it runs in the guest. */
  busybox: string;
  mke2fs: string;
  e2fsck: string;
  debugfs: string;
  /** A bzImage. */
  kernel: string;
  /** The folder of the kernel's modules. */
  modules: string;
}

/** Either every tool, or the names of those that are missing, each with its Debian package. */
export type Requirements =
  | { tools: GuestTools; missing: [] }
  | { tools: undefined; missing: [string, ...string[]] };

/** With `VHOST_WASM_REQUIRE_GUEST=1` a test fails where it would be skipped. */
export const GUEST_REQUIRED = process.env.VHOST_WASM_REQUIRE_GUEST === "1";

const QEMU_MAJOR_MIN = 8;

/** Looks in PATH, in the usual folders, in the kernel's folder and in /boot. Changes nothing. */
export function findRequirements(): Requirements {
  const missing: string[] = [];
  const need = <T>(found: T | undefined, what: string, debianPackage: string): T => {
    if (found === undefined) missing.push(`${what} (package ${debianPackage})`);
    return found as T;
  };
  const kernel = findKernel();
  const tools: GuestTools = {
    qemu: need(
      findProgram("qemu-system-x86_64", (path) => qemuMajor(path) >= QEMU_MAJOR_MIN),
      `qemu-system-x86_64 ${QEMU_MAJOR_MIN} or later`,
      "qemu-system-x86, bookworm-backports",
    ),
    setpriv: need(findProgram("setpriv"), "setpriv", "util-linux"),
    busybox: need(findProgram("busybox", isStatic), "a static busybox", "busybox-static"),
    mke2fs: need(findProgram("mke2fs"), "mke2fs", "e2fsprogs"),
    e2fsck: need(findProgram("e2fsck"), "e2fsck", "e2fsprogs"),
    debugfs: need(findProgram("debugfs"), "debugfs", "e2fsprogs"),
    kernel: need(kernel?.kernel, "a Linux cloud kernel", "linux-image-cloud-amd64"),
    modules: kernel?.modules ?? "",
  };
  const [first, ...others] = missing;
  return first === undefined
    ? { tools, missing: [] }
    : { tools: undefined, missing: [first, ...others] };
}

function findProgram(name: string, suits = (_path: string) => true): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return [...folders, "/usr/sbin", "/sbin", "/usr/bin", "/bin"]
    .map((folder) => join(folder, name))
    .find((path) => isReadable(path, constants.R_OK | constants.X_OK) && suits(path));
}

function isReadable(path: string, mode = constants.R_OK): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** 0 for a program that does not tell. */
function qemuMajor(path: string): number {
  try {
    const text = execFileSync(path, ["--version"], { encoding: "utf8" });
    return Number(/ version (\d+)\./.exec(text)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** An ELF file for x86-64 that names no interpreter. */
function isStatic(path: string): boolean {
  const file = readFileSync(path);
  const EM_X86_64 = 62;
  const PT_INTERP = 3;
  if (file.toString("latin1", 0, 4) !== "\x7fELF") return false;
  if (file.readUInt16LE(18) !== EM_X86_64) return false;
  const table = Number(file.readBigUInt64LE(32));
  const entryBytes = file.readUInt16LE(54);
  const types = Array.from({ length: file.readUInt16LE(56) }, (_, index) =>
    file.readUInt32LE(table + index * entryBytes),
  );
  return !types.includes(PT_INTERP);
}

/** The newest cloud kernel below the first folder that has one. */
function findKernel(): { kernel: string; modules: string } | undefined {
  const named = process.env.VHOST_WASM_GUEST_KERNEL;
  for (const root of named ? [named] : ["/var/cache/vhost-wasm/kernel", "/"]) {
    const found = kernelVersions(join(root, "boot"))
      .map((version) => ({
        kernel: join(root, "boot", `vmlinuz-${version}`),
        modules: ["lib/modules", "usr/lib/modules"]
          .map((folder) => join(root, folder, version))
          .find((path) => isReadable(path)),
      }))
      .find(({ kernel, modules }) => modules && isReadable(kernel));
    if (found?.modules) return { kernel: found.kernel, modules: found.modules };
  }
  return undefined;
}

/** Newest first. */
function kernelVersions(boot: string): string[] {
  if (!isReadable(boot)) return [];
  return readdirSync(boot)
    .flatMap((name) => /^vmlinuz-(.+-cloud-amd64)$/.exec(name)?.[1] ?? [])
    .sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
}
