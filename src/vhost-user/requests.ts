import { VhostError } from "../spec/errno.js";
import {
  VHOST_USER_CONFIG_BYTES_MAX,
  VHOST_USER_CONFIG_START,
  VHOST_USER_INFLIGHT_BYTES,
  VHOST_USER_INFLIGHT_BYTES_PADDED,
  VHOST_USER_LOG_BYTES,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_RARP,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VHOST_USER_PROTOCOL_F_STATUS,
  VHOST_USER_REGION_BYTES,
  VHOST_USER_REGIONS_MAX,
  VHOST_USER_REGIONS_START,
  VHOST_USER_REQUESTS,
  VHOST_USER_U64_BYTES,
  VHOST_USER_VRING_ADDR_BYTES,
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  VHOST_USER_VRING_STATE_BYTES,
  VHOST_VRING_F_LOG,
} from "../spec/vhost-user.js";
import { ETH_ALEN } from "../spec/virtio-net.js";
import type { Backend } from "./backend.js";
import { readRegion } from "./memory-table.js";
import type { Message } from "./message.js";
import type { InflightDescription } from "./records.js";
import type { VringFdKind } from "./vrings.js";

/** A payload, and a descriptor that goes with it and is closed then. */
export interface Reply {
  payload: Uint8Array;
  fd?: number;
}

/** What a request is answered with; nothing: with an acknowledgement, if one was asked for. */
export type Answer = Reply | undefined | Promise<Reply | undefined>;

/** How a request looks and what it does. */
export interface RequestType {
  /** As the document names it. */
  name: string;
  /** Bytes of payload, least and most. */
  bytes: readonly [number, number];
  /** Descriptors, least and most. */
  fds: readonly [number, number];
  /** It has an answer of its own. */
  hasAnswer: boolean;
  /** The protocol feature that it needs, a bit. */
  feature: number | undefined;
  /** Does it. Descriptors that it takes are removed from the message. */
  run(backend: Backend, message: Message): Answer;
}

const u64 = (value: bigint | number): Reply => ({
  payload: new Uint8Array(BigUint64Array.of(BigInt(value)).buffer),
});

const types = new Map<number, RequestType>();

/** The request of that number, if we take it. */
export function requestType(request: number): RequestType | undefined {
  return types.get(request);
}

type RequestName = keyof typeof VHOST_USER_REQUESTS;
type Shape = Partial<Pick<RequestType, "fds" | "feature">> & { bytes: number | [number, number] };

function define(
  name: RequestName,
  { bytes, fds = [0, 0], feature }: Shape,
  run: (backend: Backend, message: Message) => Answer | Promise<void> | void,
  hasAnswer = false,
): void {
  const range = typeof bytes === "number" ? ([bytes, bytes] as const) : bytes;
  types.set(VHOST_USER_REQUESTS[name], {
    name,
    bytes: range,
    fds,
    feature,
    hasAnswer,
    run: run as RequestType["run"],
  });
}

/** A request that is answered with a payload of its own. */
function defineGet(
  name: RequestName,
  shape: Shape,
  run: (backend: Backend, message: Message) => Answer,
): void {
  define(name, shape, run, true);
}

const NONE: Shape = { bytes: 0 };
const U64: Shape = { bytes: VHOST_USER_U64_BYTES };
const STATE: Shape = { bytes: VHOST_USER_VRING_STATE_BYTES };

defineGet("GET_FEATURES", NONE, (backend) => u64(backend.features));
define("SET_FEATURES", U64, (backend, { payload }) =>
  backend.setFeatures(payload.getBigUint64(0, true)),
);
defineGet("GET_PROTOCOL_FEATURES", NONE, (backend) => u64(backend.protocolFeatures));
define("SET_PROTOCOL_FEATURES", U64, (backend, { payload }) =>
  backend.setProtocolFeatures(payload.getBigUint64(0, true)),
);
define("SET_OWNER", NONE, () => {}); // who connects is the owner
define("RESET_OWNER", NONE, (backend) => backend.disableRings());
define("RESET_DEVICE", { ...NONE, feature: VHOST_USER_PROTOCOL_F_RESET_DEVICE }, (backend) =>
  backend.resetDevice(),
);
defineGet("GET_QUEUE_NUM", { ...NONE, feature: VHOST_USER_PROTOCOL_F_MQ }, (backend) =>
  u64(backend.queueNum),
);

// ── memory ──────────────────────────────────────────────────────────────────────────────────────
const SLOTS = VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;

define(
  "SET_MEM_TABLE",
  {
    bytes: [
      VHOST_USER_REGIONS_START,
      VHOST_USER_REGIONS_START + VHOST_USER_REGIONS_MAX * VHOST_USER_REGION_BYTES,
    ],
    fds: [0, VHOST_USER_REGIONS_MAX],
  },
  (backend, { payload, fds }) => {
    const count = payload.getUint32(0, true);
    const bytes = VHOST_USER_REGIONS_START + count * VHOST_USER_REGION_BYTES;
    if (payload.byteLength !== bytes || fds.length !== count) {
      const facts = { count, bytes: payload.byteLength, fds: fds.length };
      throw new VhostError("EINVAL", "regions, bytes and descriptors do not agree", facts);
    }
    const regions = Array.from({ length: count }, (_, i) =>
      readRegion(payload, VHOST_USER_REGIONS_START + i * VHOST_USER_REGION_BYTES),
    );
    return backend.setMemTable(regions, fds);
  },
);
defineGet("GET_MAX_MEM_SLOTS", { ...NONE, feature: SLOTS }, (backend) => u64(backend.memorySlots));
const ONE_REGION = VHOST_USER_REGIONS_START + VHOST_USER_REGION_BYTES;
define("ADD_MEM_REG", { bytes: ONE_REGION, fds: [1, 1], feature: SLOTS }, (backend, message) =>
  backend.addMemoryRegion(readRegion(message.payload, VHOST_USER_REGIONS_START), message.fds),
);
define("REM_MEM_REG", { bytes: ONE_REGION, fds: [0, 1], feature: SLOTS }, (backend, { payload }) =>
  backend.removeMemoryRegion(readRegion(payload, VHOST_USER_REGIONS_START)),
);

// ── records ─────────────────────────────────────────────────────────────────────────────────────
const LOG = VHOST_USER_PROTOCOL_F_LOG_SHMFD;
const LOG_SHAPE: Shape = { bytes: VHOST_USER_LOG_BYTES, fds: [1, 1], feature: LOG };
defineGet("SET_LOG_BASE", LOG_SHAPE, async (backend, { payload, fds }) => {
  const sizeBytes = payload.getBigUint64(0, true);
  await backend.setLogBase({ sizeBytes, offset: payload.getBigUint64(8, true) }, fds);
  return u64(0);
});

const INFLIGHT_SHAPE: Shape = {
  bytes: [VHOST_USER_INFLIGHT_BYTES, VHOST_USER_INFLIGHT_BYTES_PADDED],
  feature: VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
};

function readInflight(payload: DataView): InflightDescription {
  return {
    sizeBytes: payload.getBigUint64(0, true),
    offset: payload.getBigUint64(8, true),
    queueCount: payload.getUint16(16, true),
    queueSize: payload.getUint16(18, true),
  };
}

defineGet("GET_INFLIGHT_FD", INFLIGHT_SHAPE, (backend, { payload }) => {
  const { description, fd } = backend.makeInflight(readInflight(payload));
  const answer = new DataView(new ArrayBuffer(payload.byteLength)); // padded as it was asked
  answer.setBigUint64(0, description.sizeBytes, true);
  answer.setBigUint64(8, description.offset, true);
  answer.setUint16(16, description.queueCount, true);
  answer.setUint16(18, description.queueSize, true);
  return { payload: new Uint8Array(answer.buffer), fd };
});
define("SET_INFLIGHT_FD", { ...INFLIGHT_SHAPE, fds: [1, 1] }, (backend, { payload, fds }) =>
  backend.setInflight(readInflight(payload), fds),
);

// ── rings ───────────────────────────────────────────────────────────────────────────────────────
define("SET_VRING_NUM", STATE, (backend, { payload }) =>
  backend.setVringNum(payload.getUint32(0, true), payload.getUint32(4, true)),
);
define("SET_VRING_BASE", STATE, (backend, { payload }) =>
  backend.setVringBase(payload.getUint32(0, true), payload.getUint32(4, true)),
);
defineGet("GET_VRING_BASE", STATE, async (backend, { payload }) => {
  const index = payload.getUint32(0, true);
  const base = await backend.getVringBase(index);
  return { payload: new Uint8Array(Uint32Array.of(index, base).buffer) };
});
define("SET_VRING_ADDR", { bytes: VHOST_USER_VRING_ADDR_BYTES }, (backend, { payload }) => {
  const flags = payload.getUint32(4, true);
  if ((flags & ~VHOST_VRING_F_LOG) !== 0) {
    throw new VhostError("EINVAL", "a ring's addresses have no other flag than LOG", { flags });
  }
  return backend.setVringAddr(payload.getUint32(0, true), {
    desc: payload.getBigUint64(8, true),
    device: payload.getBigUint64(16, true),
    driver: payload.getBigUint64(24, true),
    log: flags & VHOST_VRING_F_LOG ? payload.getBigUint64(32, true) : undefined,
  });
});
define("SET_VRING_ENABLE", STATE, (backend, { payload }) => {
  const value = payload.getUint32(4, true);
  if (value > 1) throw new VhostError("EINVAL", "a ring is enabled by 1, disabled by 0", { value });
  return backend.setVringEnable(payload.getUint32(0, true), value === 1);
});

define("SEND_RARP", { ...U64, feature: VHOST_USER_PROTOCOL_F_RARP }, (backend, { payload }) => {
  const bytes = new Uint8Array(payload.buffer, payload.byteOffset, ETH_ALEN);
  return backend.sendRarp(bytes.slice());
});

function defineVringFd(name: RequestName, kind: VringFdKind): void {
  define(name, { ...U64, fds: [0, 1] }, (backend, { payload, fds }) => {
    const value = payload.getBigUint64(0, true);
    const isWithout = (value & VHOST_USER_VRING_NOFD_MASK) !== 0n;
    if (
      (value & ~(VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD_MASK)) !== 0n ||
      fds.length !== (isWithout ? 0 : 1)
    ) {
      const facts = { value, fds: fds.length };
      throw new VhostError("EINVAL", "the descriptor and what is said of it do not agree", facts);
    }
    return backend.setVringFd(Number(value & VHOST_USER_VRING_IDX_MASK), kind, fds);
  });
}
defineVringFd("SET_VRING_KICK", "kick");
defineVringFd("SET_VRING_CALL", "call");
defineVringFd("SET_VRING_ERR", "err");

// ── configuration, status ───────────────────────────────────────────────────────────────────────
const CONFIG = VHOST_USER_PROTOCOL_F_CONFIG;
const CONFIG_START = VHOST_USER_CONFIG_START;
const CONFIG_BYTES = CONFIG_START + VHOST_USER_CONFIG_BYTES_MAX;
const CONFIG_SHAPE: Shape = { bytes: [CONFIG_START, CONFIG_BYTES], feature: CONFIG };

/** Offset and contents of a configuration payload; throws EINVAL when its size lies. */
function configOf({ payload }: Message): { offset: number; contents: Uint8Array } {
  const size = payload.getUint32(4, true);
  if (size !== payload.byteLength - CONFIG_START) {
    throw new VhostError("EINVAL", "a size that is not the payload's", { size });
  }
  const contents = new Uint8Array(payload.buffer, payload.byteOffset + CONFIG_START, size);
  return { offset: payload.getUint32(0, true), contents: contents.slice() };
}

defineGet("GET_CONFIG", CONFIG_SHAPE, async (backend, message) => {
  const { payload } = message;
  const { offset, contents } = configOf(message);
  const answer = new Uint8Array(payload.byteLength);
  answer.set(new Uint8Array(payload.buffer, payload.byteOffset, CONFIG_START));
  answer.set(await backend.getConfig(offset, contents.length), CONFIG_START);
  return { payload: answer };
});
define("SET_CONFIG", CONFIG_SHAPE, (backend, message) => {
  const { offset, contents } = configOf(message);
  return backend.setConfig(offset, contents);
});
const STATUS = VHOST_USER_PROTOCOL_F_STATUS;
defineGet("GET_STATUS", { ...NONE, feature: STATUS }, (backend) => u64(backend.status));
define("SET_STATUS", { ...U64, feature: STATUS }, (backend, { payload }) => {
  const status = payload.getBigUint64(0, true);
  if (status > 0xffn) throw new VhostError("EINVAL", "a status is one byte", { status });
  return backend.setStatus(Number(status));
});
