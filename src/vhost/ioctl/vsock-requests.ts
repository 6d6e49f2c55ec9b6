import { VhostError } from "../../spec/errno.js";
import { VHOST_VSOCK_SET_GUEST_CID, VHOST_VSOCK_SET_RUNNING } from "../../spec/vhost.js";
import { VMADDR_ANY, VMADDR_CID_HOST } from "../../spec/virtio-vsock.js";
import { type Handler, s32Of, u64Of } from "./call.js";

/** Anyone's, also while the rings run. Linux: vhost_vsock_set_cid(). */
const setGuestCid: Handler = (call) => {
  const cid = u64Of(call);
  if (cid <= BigInt(VMADDR_CID_HOST) || cid >= BigInt(VMADDR_ANY)) {
    throw new VhostError("EINVAL", "a guest's CID is 3 to 4294967294", { cid });
  }
  call.dev.setCid(Number(cid));
};

const setRunning: Handler = (call) => {
  const isStart = s32Of(call) !== 0;
  call.dev.owner.mustBe(call.task);
  if (isStart) call.dev.start();
  else call.dev.stop();
};

/** Of vhost-vsock alone. */
export const VSOCK_REQUESTS = new Map<number, Handler>([
  [VHOST_VSOCK_SET_GUEST_CID, setGuestCid],
  [VHOST_VSOCK_SET_RUNNING, setRunning],
]);
