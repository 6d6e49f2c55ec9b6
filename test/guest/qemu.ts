// A Linux guest in QEMU, under emulation, with vhost-user disks; what it says, and its end.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BackEnd } from "./back-end.js";
import type { MoreOfGuest } from "./initramfs.js";
import { Program } from "./program.js";
import type { GuestTools } from "./requirements.js";

/** A vhost-user-blk device of a guest. The first one is /dev/vda. */
export interface GuestDisk {
  backEnd: BackEnd;
  queues?: number;
  /** Entries of each queue, a power of two. QEMU's default is 128. */
  queueSize?: number;
  /** More of QEMU's properties of the device: `packed=on`. */
  properties?: string;
  /** The back-end may go and come back: QEMU connects again. */
  reconnects?: boolean;
}

/** How a guest is made. */
export interface GuestOptions {
  disks: GuestDisk[];
  /** Shell commands; `INIT` in initramfs.ts tells what they may use. */
  script: string;
  cpus?: number;
  /** How many times the script restarts the guest. */
  restarts?: number;
  /** More arguments for QEMU. */
  more?: string[];
  /** More in its root file system. */
  root?: MoreOfGuest;
  /** Another kernel than all others have. */
  kernel?: string;
  /** For the whole life of the guest; 120,000 unless told. */
  limitMs?: number;
}

/** What every guest of a test file shares. */
export interface GuestHome {
  tools: GuestTools;
  /** For files; exists. */
  folder: string;
  /** The kernel to start. */
  kernel: string;
  initramfs: (script: string, more?: MoreOfGuest) => Uint8Array;
}

const MEMORY = "256M";

/** What a kernel begins with that takes tens of milliseconds each, and that no guest here needs. */
const NOT_NEEDED = [
  ...["jent_mod_init", "crypto_kdf108_init", "init_encrypted", "load_system_certificate_list"],
  ...["trace_eval_init", "bpf_tcp_ca_kfunc_init", "cmos_init", "i8042_init", "nvme_core_init"],
];

/** Everything is faster without these; the devices are not concerned. */
const KERNEL_ARGUMENTS = [
  "console=ttyS1 loglevel=5 panic=-1",
  "mitigations=off init_on_alloc=0 cryptomgr.notests rodata=off",
  `noreplace-smp lsm=capability audit=0 initcall_blacklist=${NOT_NEEDED}`,
].join(" ");

let count = 0;

/** A guest that was started. Its end must be waited for: by `finish` or by `kill`. */
export class Guest {
  readonly program: Program;
  readonly #options: GuestOptions;
  readonly #kernelLog: string;
  readonly #initrd: string;
  readonly #limit: NodeJS.Timeout;
  #failure: string | undefined;

  constructor(home: GuestHome, options: GuestOptions) {
    const name = join(home.folder, `guest-${count++}`);
    this.#options = options;
    this.#kernelLog = `${name}.log`;
    this.#initrd = `${name}.initrd`;
    writeFileSync(this.#initrd, home.initramfs(options.script, options.root));
    this.program = new Program(home.tools, home.tools.qemu, [
      ...machineArguments(options),
      ...["-serial", "stdio", "-serial", `file:${this.#kernelLog}`],
      ...[
        "-kernel",
        options.kernel ?? home.kernel,
        "-initrd",
        this.#initrd,
        "-append",
        KERNEL_ARGUMENTS,
      ],
    ]);
    const limitMs = options.limitMs ?? 120_000;
    this.#limit = setTimeout(() => this.#fail(`no end within ${limitMs / 1000} s`), limitMs);
    this.program.child.stdout?.on("data", () => this.#countBoots());
    this.program.ended.then(() => this.#cleanUp());
    for (const { backEnd } of options.disks) {
      backEnd.onEnd((end) => this.#fail(`back-end: ${end}`));
    }
  }

  /** Without effect after the end. */
  #fail(reason: string): void {
    if (this.program.end) return;
    this.#failure ??= reason;
    this.program.child.kill("SIGKILL");
  }

  /** A guest that panics in every boot would go on for ever. */
  #countBoots(): void {
    if (this.values("boot").length > 1 + (this.#options.restarts ?? 0)) {
      this.#fail("the guest restarted by itself");
    }
  }

  #cleanUp(): void {
    clearTimeout(this.#limit);
    rmSync(this.#initrd, { force: true });
  }

  /** The values of all lines `@@name=value` that were printed so far, in order. */
  values(name: string): string[] {
    const lines = this.program.stdout.split("\n").slice(0, -1);
    const start = `@@${name}=`;
    return lines
      .filter((line) => line.startsWith(start))
      .map((line) => line.slice(start.length).trimEnd());
  }

  /** The value of the only line `@@name=value`. Throws when there is none, or more than one. */
  value(name: string): string {
    const [value, ...others] = this.values(name);
    if (value === undefined || others.length > 0) {
      throw this.#error(`${value === undefined ? "no" : "more than one"} @@${name}`);
    }
    return value;
  }

  /** Waits for that many values of a name. Rejects, and kills the guest, when it ends before. */
  async until(name: string, times = 1): Promise<void> {
    const limitMs = this.#options.limitMs ?? 120_000;
    const isMet = () => this.values(name).length >= times;
    try {
      await this.program.until(isMet, `${times} × @@${name}`, limitMs);
    } catch (error) {
      await this.kill();
      throw this.#error(this.#failure ?? (error as Error).message);
    }
  }

  /** `kill -9` of QEMU; resolves when it is gone. */
  async kill(): Promise<void> {
    await this.program.stop("SIGKILL");
  }

  /** Waits until the guest has switched itself off. Rejects when its script or QEMU failed. */
  async finish(): Promise<this> {
    const end = await this.program.ended;
    if (this.#failure) throw this.#error(this.#failure);
    if (end !== "exit status 0") throw this.#error(`QEMU: ${end}`);
    const done = this.values("done").join();
    if (done !== "0") throw this.#error(done ? `the script's status: ${done}` : "no @@done");
    const boots = this.values("boot").length;
    const expected = 1 + (this.#options.restarts ?? 0);
    if (boots !== expected) throw this.#error(`${boots} boots instead of ${expected}`);
    if (this.values("failed").length > 0) throw this.#error("a module was not loaded");
    return this;
  }

  #error(reason: string): Error {
    return new Error(`${reason}\n${this.console}`);
  }

  /** All that the guest, its kernel, QEMU and the back-ends have printed. */
  get console(): string {
    return [
      ...["── guest", this.program.stdout, "── its kernel", readLog(this.#kernelLog)],
      ...["── QEMU", this.program.stderr],
      ...this.#options.disks.flatMap(({ backEnd }) => ["── back-end", backEnd.output]),
    ].join("\n");
  }
}

function readLog(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function machineArguments(options: GuestOptions): string[] {
  const { disks, cpus = 1, restarts = 0, more = [] } = options;
  const devices = disks.flatMap(
    ({ backEnd, queues = 1, queueSize, properties, reconnects }, index) => {
      const device = [
        `vhost-user-blk-pci,chardev=disk${index},disable-legacy=on,num-queues=${queues}`,
      ];
      if (queueSize) device.push(`queue-size=${queueSize}`);
      if (properties) device.push(properties);
      const reconnect = reconnects ? ",reconnect-ms=50" : "";
      const chardev = `socket,id=disk${index},path=${backEnd.socket}${reconnect}`;
      return ["-chardev", chardev, "-device", device.join(",")];
    },
  );
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", ...(restarts ? [] : ["-no-reboot"])],
    // The emulation of cmpxchg16b was wrong in some versions of QEMU; Linux does without it.
    ...["-accel", "tcg,thread=multi", "-cpu", "Westmere,-cx16", "-smp", String(cpus)],
    ...["-machine", "q35,memory-backend=memory", "-m", MEMORY],
    ...["-object", `memory-backend-memfd,id=memory,size=${MEMORY},share=on`],
    ...devices,
    ...more,
  ];
}
