import type { Task } from "../../kernel/task.js";
import { VhostError } from "../../spec/errno.js";
import {
  VHOST_FILE_UNBIND,
  VHOST_NET_SET_BACKEND,
  VHOST_RESET_OWNER,
  VHOST_VRING_FILE,
} from "../../spec/vhost.js";
import { type Handler, type IoctlCall, structOf } from "./call.js";
import { NetBackendFile } from "./net-backend.js";

/** None for -1. ENOTSOCK: it is no such file, or not open. Linux: get_socket(). */
function backendOf({ files }: Task, fd: number): NetBackendFile | null {
  if (fd === VHOST_FILE_UNBIND) return null;
  const file = files?.fds.get(fd);
  if (file instanceof NetBackendFile) return file;
  throw new VhostError("ENOTSOCK", `${fd} is no tap and no packet socket`, { fd });
}

/** A ring gets a back-end, or another, or none. Linux: vhost_net_set_backend(). */
function setBackend(call: IoctlCall): void {
  const { index, fd } = structOf<"index" | "fd">(call, VHOST_VRING_FILE);
  const { dev, task } = call;
  dev.owner.mustBe(task);
  const vq = dev.vqs[index];
  if (!vq) throw new VhostError("ENOBUFS", `there is no queue ${index}`, { index });
  if (!vq.isAccessible) throw new VhostError("EFAULT", "the ring, or memory, can't be there");
  dev.setBackend(vq, backendOf(task, fd));
}

/** Back to before the owner came. Linux: vhost_net_reset_owner(). */
function resetOwner({ dev, task }: IoctlCall): void {
  dev.owner.mustBe(task);
  dev.reset();
}

/** Of vhost-net alone. */
export const NET_REQUESTS = new Map<number, Handler>([
  [VHOST_NET_SET_BACKEND, setBackend],
  [VHOST_RESET_OWNER, resetOwner],
]);
