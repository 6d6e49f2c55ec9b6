import { VhostError } from "../../spec/errno.js";
import {
  VHOST_GET_VRING_BASE,
  VHOST_GET_VRING_BUSYLOOP_TIMEOUT,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
  VHOST_VRING_ADDR,
  VHOST_VRING_F_LOG,
  VHOST_VRING_FILE,
  VHOST_VRING_STATE,
} from "../../spec/vhost.js";
import { VIRTQ_AVAIL_ALIGN, VIRTQ_USED_ALIGN } from "../../spec/virtio-ring.js";
import { areaBytes, logAccessOk } from "./access.js";
import { eventfdOf, type IoctlCall, structOf } from "./call.js";
import type { Vq, VqEvent } from "./vq.js";

/** True: what the ring had to do before is to be waited for. */
type VringHandler = (call: IoctlCall, vq: Vq) => boolean | undefined;

const invalid = (message: string, facts: Record<string, unknown>) =>
  new VhostError("EINVAL", message, facts);

function setNum(call: IoctlCall, vq: Vq): undefined {
  vq.mustBeIdle(); // before the size is looked at
  const { num } = structOf<"num">(call, VHOST_VRING_STATE);
  vq.setNum(num, call.dev.features);
}

function setBase(call: IoctlCall, vq: Vq): undefined {
  vq.mustBeIdle();
  const { num } = structOf<"num">(call, VHOST_VRING_STATE);
  vq.setBase(num, call.dev.features);
}

/** A ring that runs may be moved. Linux: vhost_vring_set_addr(). */
function setAddr(call: IoctlCall, vq: Vq): undefined {
  const fields = structOf<"flags">(call, VHOST_VRING_ADDR);
  const { flags } = fields;
  if ((flags & ~VHOST_VRING_F_LOG) !== 0) {
    throw new VhostError("EOPNOTSUPP", "the one flag is VHOST_VRING_F_LOG", { flags });
  }
  const address = (name: string) => fields[name] as unknown as bigint;
  const areas = {
    desc: address("desc_user_addr"),
    avail: address("avail_user_addr"),
    used: address("used_user_addr"),
  };
  const logged = address("log_guest_addr");
  const isOdd = (at: bigint, align: number) => at % BigInt(align) !== 0n;
  if (
    isOdd(areas.avail, VIRTQ_AVAIL_ALIGN) ||
    isOdd(areas.used, VIRTQ_USED_ALIGN) ||
    isOdd(logged, VIRTQ_USED_ALIGN)
  ) {
    throw invalid("avail is aligned to 2, used and log to 4", { ...areas, logged });
  }
  const used = flags & VHOST_VRING_F_LOG ? logged : undefined;
  if (vq.isActive) {
    const isLogOk =
      used === undefined ||
      vq.isTranslated ||
      logAccessOk(vq.log.base, used, areaBytes(vq.num).used);
    if (!isLogOk || !vq.areAccessible(areas)) throw invalid("a ring can't be there", { ...areas });
  }
  vq.areas = areas;
  vq.log = { ...vq.log, used };
  vq.update();
}

/** The driver's and the device's eventfds may change while the ring runs. */
const setEvent =
  (which: VqEvent): VringHandler =>
  (call, vq) => {
    const { fd } = structOf<"fd">(call, VHOST_VRING_FILE);
    const hadOne = vq.event(which) !== null;
    return vq.setEvent(which, eventfdOf(call.task, fd)) && hadOne && which === "kick";
  };

/** Answers in the struct that asked: its index stays. */
const answer =
  (ask: (vq: Vq, call: IoctlCall) => number): VringHandler =>
  (call, vq) => {
    const { memory, arg } = call;
    const index = memory.readU32(arg);
    memory.writeStruct(arg, VHOST_VRING_STATE, { index, num: ask(vq, call) });
    return undefined;
  };

const HANDLERS = new Map<number, VringHandler>([
  [VHOST_SET_VRING_NUM, setNum],
  [VHOST_SET_VRING_BASE, setBase],
  [VHOST_GET_VRING_BASE, answer((vq, { dev }) => vq.position(dev.features))],
  [VHOST_SET_VRING_ADDR, setAddr],
  [VHOST_SET_VRING_KICK, setEvent("kick")],
  [VHOST_SET_VRING_CALL, setEvent("call")],
  [VHOST_SET_VRING_ERR, setEvent("err")],
  [
    VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
    (call, vq) => {
      vq.setBusyloopTimeout(structOf<"num">(call, VHOST_VRING_STATE).num || undefined);
      return undefined;
    },
  ],
  [VHOST_GET_VRING_BUSYLOOP_TIMEOUT, answer((vq) => vq.busyloopMicroseconds ?? 0)],
]);

/** The ring that the first four bytes behind the argument name. EFAULT, ENOBUFS. */
export function vqOf({ dev, memory, arg }: IoctlCall): Vq {
  const index = memory.readU32(arg);
  const vq = dev.vqs[index];
  if (vq) return vq;
  throw new VhostError("ENOBUFS", `there is no queue ${index}`, { index });
}

/**
 * What no one else has taken, from the owner: EFAULT and ENOBUFS come before ENOTTY. True: what the
 * ring had to do before is to be waited for. Linux: vhost_vring_ioctl().
 */
export function vringIoctl(request: number, call: IoctlCall): boolean {
  const vq = vqOf(call);
  const handler = HANDLERS.get(request);
  if (handler) return handler(call, vq) ?? false;
  throw new VhostError("ENOTTY", `0x${request.toString(16)} is no ioctl of a ring`, { request });
}
