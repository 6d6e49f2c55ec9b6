import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  const owner = main.fork();
  owner.ioctl(owner.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(owner, "vhost-") ?? 0;
  const tracer = main.fork();
  const seize = tracer.ptrace("PTRACE_SEIZE", worker);
  const interrupt = tracer.ptrace("PTRACE_INTERRUPT", worker);
  const second_tracer = main.ptrace("PTRACE_SEIZE", worker);
  const own_thread = owner.ptrace("PTRACE_SEIZE", worker);
  const state_traced = main.stat(worker).state;
  const tracer_shown = main.status(worker).TracerPid === `${tracer.pid}`;
  tracer.exitGroup();
  return {
    seize,
    interrupt,
    second_tracer,
    own_thread,
    state_traced,
    tracer_shown,
    state_then: main.stat(worker).state,
    TracerPid_then: main.status(worker).TracerPid,
  };
}
