import { VhostError } from "../../spec/errno.js";
import {
  VHOST_ATTACH_VRING_WORKER,
  VHOST_FREE_WORKER,
  VHOST_GET_VRING_WORKER,
  VHOST_NEW_WORKER,
  VHOST_VRING_WORKER,
  VHOST_WORKER_STATE,
} from "../../spec/vhost.js";
import { mustForkFromOwner } from "../worker-table.js";
import { type Handler, type IoctlCall, structOf } from "./call.js";
import { vqOf } from "./vring-requests.js";

/** Only what the struct holds is asked for: nothing of it is looked at before all can be read. */
const workerId = (call: IoctlCall) => structOf<"worker_id">(call, VHOST_WORKER_STATE).worker_id;

/** A worker whose number can't be told stays. Linux: vhost_new_worker(). */
function newWorker({ dev, task, memory, arg }: IoctlCall): void {
  mustForkFromOwner(dev.forkFromOwner);
  const id = dev.workers.create(task, true);
  memory.writeStruct(arg, VHOST_WORKER_STATE, { worker_id: id });
}

function attach(call: IoctlCall): void {
  const { worker_id } = structOf<"worker_id">(call, VHOST_VRING_WORKER);
  call.dev.workers.attach(vqOf(call), worker_id);
}

function get(call: IoctlCall): void {
  const { index } = structOf<"index">(call, VHOST_VRING_WORKER);
  const worker_id = call.dev.workers.idOf(vqOf(call));
  call.memory.writeStruct(call.arg, VHOST_VRING_WORKER, { index, worker_id });
}

/** EINVAL without an owner, then EPERM: others than those of the owner. */
const owned =
  (handler: Handler): Handler =>
  (call) => {
    if (!call.dev.owner.isSet) throw new VhostError("EINVAL", "the device has no owner");
    call.dev.owner.mustBe(call.task);
    handler(call);
  };

/** Linux 6.12 has them on vhost-scsi alone. Linux: vhost_worker_ioctl(). */
export const WORKER_REQUESTS = new Map<number, Handler>([
  [VHOST_NEW_WORKER, owned(newWorker)],
  [VHOST_FREE_WORKER, owned((call) => call.dev.workers.free(workerId(call)))],
  [VHOST_ATTACH_VRING_WORKER, owned(attach)],
  [VHOST_GET_VRING_WORKER, owned(get)],
]);
