// A guest's first and only root file system: busybox, the modules, /init, and the test's script.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { GuestTools } from "./requirements.js";

const MODULES = ["virtio_pci", "virtio_blk", "ext4"];

/**
 * What runs in the guest, with the applets of busybox as commands, and prints on the first serial
 * port; the kernel's log goes to the second. A script may use `say NAME VALUE`, `sum` (a checksum
 * of its input) and `restart` (a reboot). It ends with its last command, or with the first one
 * that fails; then `@@done=` has its status, and the kernel's log is printed if that is not 0.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
exec </dev/null >/dev/ttyS0 2>&1

say() { echo "@@$1=$2"; }
sum() { sha256sum | cut -d' ' -f1; }
# Setting a terminal waits until all that was printed has left; a power-off would cut it.
drain() { stty -echo </dev/ttyS0; }
restart() { drain; reboot -f; sleep 60; }

say boot "$(uname -r)"
for module in /modules/*.ko; do insmod "$module" || say failed "$module"; done
( set -e; . /script )
status=$?
[ $status = 0 ] || dmesg | tail -n 60
say done $status
drain
poweroff -f
`;

/** A file or folder of a guest's root file system. */
export interface Entry {
  name: string;
  /** File type and permissions. */
  mode: number;
  content: Uint8Array;
}

/** A folder; those above it come first. */
export const folder = (name: string): Entry => ({
  name,
  mode: 0o040755,
  content: new Uint8Array(0),
});
/** A file; runnable unless `mode` says something else. */
export const file = (name: string, content: Uint8Array | string, mode = 0o100755): Entry => ({
  name,
  mode,
  content: Buffer.from(content),
});

/** What a guest has beside the part that all share. */
export interface MoreOfGuest {
  /** Kernel modules; what they depend on comes with them. */
  modules?: string[];
  files?: Entry[];
}

/** Prepares the part that all guests share; gives a maker of whole images, each with its script. */
export function makeInitramfs(
  tools: GuestTools,
): (script: string, more?: MoreOfGuest) => Uint8Array {
  const modulesOf = (names: string[]) =>
    modulesInOrder(tools, names).map(({ name, content }, index) =>
      file(`modules/${String(index).padStart(2, "0")}-${name}.ko`, content),
    );
  const modules = modulesOf(MODULES);
  const base = cpio([
    ...["bin", "dev", "mnt", "modules", "proc", "sys", "tmp"].map(folder),
    file("bin/busybox", readFileSync(tools.busybox)),
    file("init", INIT),
    ...modules,
  ]);
  // The kernel unpacks archives that follow each other, one over the other.
  return (script, more = {}) => {
    const others = more.modules ? modulesOf([...MODULES, ...more.modules]) : [];
    const added = [...others.slice(modules.length), ...(more.files ?? [])];
    return Buffer.concat([base, cpio([file("script", `${script}\n`), ...added])]);
  };
}

/** An archive in the "newc" format, which the kernel unpacks. */
function cpio(entries: Entry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const pad = (bytes: number) => new Uint8Array(-bytes & 3);
  const end: Entry = { name: "TRAILER!!!", mode: 0, content: new Uint8Array(0) };
  for (const [index, { name, mode, content }] of [...entries, end].entries()) {
    const path = Buffer.from(`${name}\0`);
    const links = 1;
    const fields = [index + 1, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, path.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    const head = Buffer.concat([Buffer.from(header), path]);
    parts.push(head, pad(head.length), content, pad(content.length));
  }
  return Buffer.concat(parts);
}

/** Modules and what they depend on, in the order of loading; without those built in. */
function modulesInOrder(tools: GuestTools, wanted: string[]): { name: string; content: Buffer }[] {
  const plain = (path: string) =>
    basename(path)
      .replace(/\.ko(\.xz)?$/, "")
      .replaceAll("-", "_");
  const builtin = readFileSync(join(tools.modules, "modules.builtin"), "utf8");
  const known = new Set(builtin.trim().split("\n").map(plain));
  const paths = readdirSync(join(tools.modules, "kernel"), { recursive: true, encoding: "utf8" });
  const files = new Map(
    paths.filter((path) => /\.ko(\.xz)?$/.test(path)).map((path) => [plain(path), path]),
  );
  const order: { name: string; content: Buffer }[] = [];
  const add = (name: string) => {
    if (known.has(name)) return;
    known.add(name);
    const path = files.get(name);
    if (!path) throw new Error(`${tools.modules} has no module ${name}`);
    const content = readModule(tools, join(tools.modules, "kernel", path));
    // A package that was unpacked, not installed, has no modules.dep: the modules tell themselves.
    const depends = /\0depends=([^\0]*)\0/.exec(content.toString("latin1"))?.[1] ?? "";
    for (const other of depends.split(",")) if (other) add(other.replaceAll("-", "_"));
    order.push({ name, content });
  };
  for (const name of wanted) add(name);
  return order;
}

function readModule(tools: GuestTools, path: string): Buffer {
  const content = readFileSync(path);
  if (!path.endsWith(".xz")) return content;
  return execFileSync(tools.busybox, ["xz", "-dc"], { input: content, maxBuffer: 1 << 28 });
}
