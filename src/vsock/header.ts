import {
  VIRTIO_VSOCK_HDR_BUF_ALLOC,
  VIRTIO_VSOCK_HDR_DST_CID,
  VIRTIO_VSOCK_HDR_DST_PORT,
  VIRTIO_VSOCK_HDR_FLAGS,
  VIRTIO_VSOCK_HDR_FWD_CNT,
  VIRTIO_VSOCK_HDR_LEN,
  VIRTIO_VSOCK_HDR_OP,
  VIRTIO_VSOCK_HDR_SRC_CID,
  VIRTIO_VSOCK_HDR_SRC_PORT,
  VIRTIO_VSOCK_HDR_TYPE,
} from "../spec/virtio-vsock.js";

/** The fields of a packet's header. virtio 1.3, 5.10.6 Device Operation: virtio_vsock_hdr. */
export interface VsockHeader {
  srcCid: number;
  dstCid: number;
  srcPort: number;
  dstPort: number;
  /** Bytes of payload. */
  len: number;
  type: number;
  op: number;
  flags: number;
  bufAlloc: number;
  fwdCnt: number;
}

/**
 * A CID as a number. Those above 2^53 are rounded, which is no harm: nobody has one above 2^32, and
 * none of them is rounded to less.
 */
function cidAt(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/** Reads the header at `at`. What lies there must be ours alone: fields are read one by one. */
export function readHeader(view: DataView, at = 0): VsockHeader {
  return {
    srcCid: cidAt(view, at + VIRTIO_VSOCK_HDR_SRC_CID),
    dstCid: cidAt(view, at + VIRTIO_VSOCK_HDR_DST_CID),
    srcPort: view.getUint32(at + VIRTIO_VSOCK_HDR_SRC_PORT, true),
    dstPort: view.getUint32(at + VIRTIO_VSOCK_HDR_DST_PORT, true),
    len: view.getUint32(at + VIRTIO_VSOCK_HDR_LEN, true),
    type: view.getUint16(at + VIRTIO_VSOCK_HDR_TYPE, true),
    op: view.getUint16(at + VIRTIO_VSOCK_HDR_OP, true),
    flags: view.getUint32(at + VIRTIO_VSOCK_HDR_FLAGS, true),
    bufAlloc: view.getUint32(at + VIRTIO_VSOCK_HDR_BUF_ALLOC, true),
    fwdCnt: view.getUint32(at + VIRTIO_VSOCK_HDR_FWD_CNT, true),
  };
}

/** Writes all 44 bytes of a header at `at`. CIDs are below 2^32. */
export function writeHeader(view: DataView, at: number, header: VsockHeader): void {
  view.setUint32(at + VIRTIO_VSOCK_HDR_SRC_CID, header.srcCid, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_SRC_CID + 4, 0, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_DST_CID, header.dstCid, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_DST_CID + 4, 0, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_SRC_PORT, header.srcPort, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_DST_PORT, header.dstPort, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_LEN, header.len, true);
  view.setUint16(at + VIRTIO_VSOCK_HDR_TYPE, header.type, true);
  view.setUint16(at + VIRTIO_VSOCK_HDR_OP, header.op, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_FLAGS, header.flags, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_BUF_ALLOC, header.bufAlloc, true);
  view.setUint32(at + VIRTIO_VSOCK_HDR_FWD_CNT, header.fwdCnt, true);
}
