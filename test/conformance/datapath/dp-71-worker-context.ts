import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 6 });
  const worker = threadNamed(main, "vhost-") ?? 0;
  const before = main.stat(worker).cpuTimeUs;
  rig.sendRequest();
  rig.kick();
  const { comm, state, cpuTimeUs } = main.stat(worker);
  return {
    worker_switched: cpuTimeUs > before,
    worker_comm_is: comm.replace(`${main.tid}`, "<pid>"),
    idle_state: state,
    wchan: main.wchan(worker),
  };
}
