import { VhostError } from "../../spec/errno.js";
import {
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MSG,
  VHOST_IOTLB_MSG_STRUCT,
  VHOST_IOTLB_MSG_V2,
  VHOST_IOTLB_UPDATE,
  VHOST_MSG_BYTES,
  VHOST_MSG_IOTLB,
} from "../../spec/vhost-iotlb.js";
import { decodeStruct, encodeStruct } from "../user-access.js";

/** A message proper. Linux: vhost_iotlb_msg. */
export interface IotlbMsg {
  readonly iova: bigint;
  /** Bytes; a question has none. */
  readonly size: bigint;
  readonly uaddr: bigint;
  /** VHOST_ACCESS_… bits. */
  readonly perm: number;
  /** VHOST_IOTLB_… */
  readonly type: number;
}

/** The bytes of a message as a whole; all that has no meaning is 0. */
export function encodeMsg(msg: IotlbMsg, isV2: boolean): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(VHOST_MSG_BYTES);
  const type = isV2 ? VHOST_IOTLB_MSG_V2 : VHOST_IOTLB_MSG;
  new DataView(bytes.buffer).setUint32(0, type, true);
  bytes.set(encodeStruct(VHOST_IOTLB_MSG_STRUCT, { ...msg }), VHOST_MSG_IOTLB);
  return bytes;
}

/**
 * What a program wrote, of either version; the address space's number is not looked at, and the
 * padding may be left out. EINVAL: it is no message, or an answer of no bytes. Linux:
 * vhost_chr_write_iter().
 */
export function decodeMsg(bytes: Uint8Array): IotlbMsg {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const version = bytes.length < 4 ? 0 : view.getInt32(0, true);
  const end = VHOST_MSG_IOTLB + VHOST_IOTLB_MSG_STRUCT.bytes;
  const isKnown = version === VHOST_IOTLB_MSG || version === VHOST_IOTLB_MSG_V2;
  if (!isKnown || bytes.length < end) {
    throw new VhostError("EINVAL", "it is no message", { version, bytes: bytes.length });
  }
  const proper = Uint8Array.from(bytes.subarray(VHOST_MSG_IOTLB, end));
  const msg = decodeStruct(VHOST_IOTLB_MSG_STRUCT, proper) as unknown as IotlbMsg;
  const isAnswer = msg.type === VHOST_IOTLB_UPDATE || msg.type === VHOST_IOTLB_INVALIDATE;
  if (isAnswer && msg.size === 0n) throw new VhostError("EINVAL", "a range has bytes", { ...msg });
  return msg;
}
