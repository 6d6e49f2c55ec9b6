// Block requests that are wrong in chains that are right. virtio 1.3, 5.2.6 Device Operation.

import {
  VIRTIO_BLK_HEADER_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../spec/virtio-blk.js";
import { VIRTIO_ID_BLOCK } from "../../spec/virtio-config.js";
import { blkHeader } from "./hostile-request.js";
import type { HostileShape } from "./hostile-shape.js";
import type { HostileStage } from "./hostile-stage.js";

const DISK = { formats: ["split", "packed"], needs: { deviceId: VIRTIO_ID_BLOCK } } as const;
const UNKNOWN_TYPE = 0xdead;

const refused: readonly HostileShape[] = [
  {
    name: "blk-header-too-short",
    description: "a header of 15 bytes (CVE-2022-2132)",
    stage: (stage: HostileStage) => {
      const header = blkHeader(VIRTIO_BLK_T_IN).subarray(0, VIRTIO_BLK_HEADER_BYTES - 1);
      stage.add(stage.readable(header), stage.writable(513));
    },
  },
  {
    name: "blk-no-header",
    description: "a chain with nothing to read (CVE-2022-2132)",
    stage: (stage: HostileStage) => stage.add(stage.writable(513)),
  },
  {
    name: "blk-no-room-for-status",
    description: "a chain with nothing to write",
    stage: (stage: HostileStage) => stage.add(stage.readable(blkHeader(VIRTIO_BLK_T_IN))),
  },
  {
    name: "blk-no-bytes-at-all",
    description: "a chain of one descriptor of length 0 (CVE-2023-5158)",
    stage: (stage: HostileStage) => stage.add({ addr: 0n, len: 0 }),
  },
].map((shape) => ({
  ...shape,
  ...DISK,
  expect: "refused-chain" as const,
  error: "VRING_E_REQUEST",
}));

/** The last byte written is this status. */
const hasStatus = (status: number) => (written: Uint8Array) => written.at(-1) === status;

/** A read of one sector at `sector`, a u64. */
const readAt = (sector: bigint) => (stage: HostileStage) =>
  stage.add(stage.readable(blkHeader(VIRTIO_BLK_T_IN, sector)), stage.writable(513));

const served: readonly HostileShape[] = [
  {
    name: "blk-sector-past-end",
    description: "the last sector number there is (openvmm: not bounded)",
    status: VIRTIO_BLK_S_IOERR,
    stage: readAt((1n << 64n) - 1n),
  },
  {
    name: "blk-sector-times-512-wraps",
    description: "a sector number whose byte offset is 2^64 (openvmm)",
    status: VIRTIO_BLK_S_IOERR,
    stage: readAt(1n << 55n),
  },
  {
    name: "blk-half-a-sector",
    description: "a read of 100 bytes",
    status: VIRTIO_BLK_S_IOERR,
    stage: (stage: HostileStage) =>
      stage.add(stage.readable(blkHeader(VIRTIO_BLK_T_IN)), stage.writable(101)),
  },
  {
    name: "blk-write-past-end",
    description: "a write to the last sector number there is",
    status: VIRTIO_BLK_S_IOERR,
    stage: (stage: HostileStage) => {
      const header = stage.readable(blkHeader(VIRTIO_BLK_T_OUT, (1n << 64n) - 1n));
      stage.add(header, stage.readable(new Uint8Array(512)), stage.writable(1));
    },
  },
  {
    name: "blk-segment-cut-short",
    description: "a write-zeroes request with half a segment",
    status: VIRTIO_BLK_S_IOERR,
    stage: (stage: HostileStage) => {
      const header = stage.readable(blkHeader(VIRTIO_BLK_T_WRITE_ZEROES));
      stage.add(header, stage.readable(new Uint8Array(8)), stage.writable(1));
    },
  },
  {
    name: "blk-unknown-type",
    description: "a request of a type that is none",
    status: VIRTIO_BLK_S_UNSUPP,
    stage: (stage: HostileStage) =>
      stage.add(stage.readable(blkHeader(UNKNOWN_TYPE)), stage.writable(1)),
  },
].map(({ status, ...shape }) => ({
  ...shape,
  ...DISK,
  expect: "served" as const,
  isAnswer: hasStatus(status),
}));

/** Shapes of block requests. */
export const BLK_SHAPES: readonly HostileShape[] = [...served, ...refused];
