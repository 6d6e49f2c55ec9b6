import { NET_RECORD_PREFIX_BYTES } from "../spec/net-record.js";
import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import { PLAIN_HEADER } from "./net-link.js";
import type { NetPipe } from "./net-pipe.js";
import type { NetStage } from "./net-stage.js";
import { ethBytesOf, NET_HEAD_BYTES, type NetRoute, NO_WAY } from "./net-switch-route.js";
import { type NetTag, putHead, SAME_TAG } from "./net-tag.js";

/** In the place of where a checksum begins. */
const NO_CHECKSUM = -1;
/** In the place of where a frame is. */
const NONE = -1;

/** Plain packets, one behind another in a stage, that go one way. */
export interface NetRun {
  readonly stage: NetStage;
  /** Where the first record is. */
  readonly from: number;
  packets: number;
  /** Of their frames. */
  bytes: number;
  readonly way: number;
}

/** Whether two frames have the same addresses and type, and tag, if that is one. */
function isOneWay({ words }: NetStage, frame: number, other: number): boolean {
  const [at, to] = [frame >>> 2, other >>> 2];
  const isPeer = words[at] === words[to] && words[at + 1] === words[to + 1];
  return isPeer && words[at + 2] === words[to + 2] && words[at + 3] === words[to + 3];
}

/**
 * Calls `use` with the packets that lie from a stage's start on, run by run. Of frames that follow
 * one another and begin alike, the first is looked up.
 */
export function forEachRun(
  stage: NetStage,
  packets: number,
  route: NetRoute,
  use: (run: NetRun) => void,
): void {
  let run: NetRun = { stage, from: 0, packets: 0, bytes: 0, way: NO_WAY };
  let known = NONE; // the frame before, if it has all of a head
  stage.forEach(0, packets, (_, at, length) => {
    const frame = at + VIRTIO_NET_HDR_BYTES;
    const frameBytes = length - VIRTIO_NET_HDR_BYTES;
    const hasHead = frameBytes >= NET_HEAD_BYTES;
    if (known === NONE || !hasHead || !isOneWay(stage, known, frame)) {
      const way = route.find(stage.view, frame, frameBytes, NO_CHECKSUM);
      if (way !== run.way) {
        if (run.packets > 0) use(run);
        run = { stage, from: at - NET_RECORD_PREFIX_BYTES, packets: 0, bytes: 0, way };
      }
    }
    known = hasHead ? frame : NONE;
    run.packets++;
    run.bytes += frameBytes;
  });
  if (run.packets > 0) use(run);
}

/** Puts a run in a pipe, with the tag that its reader has. Returns how many found room. */
export function appendRun(run: NetRun, pipe: NetPipe, tag: NetTag): number {
  return tag === SAME_TAG ? pipe.append(run.stage, run.from, run.packets) : retag(run, pipe, tag);
}

function retag({ stage, from, packets, way }: NetRun, pipe: NetPipe, tag: NetTag): number {
  const ethBytes = ethBytesOf(way);
  let done = 0;
  stage.forEach(from, packets, (bytes, packet, length) => {
    const at = pipe.begin(length + tag.added - tag.cut);
    if (at < 0) return;
    pipe.bytes.set(PLAIN_HEADER, at);
    const frame = packet + VIRTIO_NET_HDR_BYTES;
    const head = bytes.subarray(frame, frame + ethBytes);
    const rest = putHead(head, ethBytes, tag, pipe.bytes, at + VIRTIO_NET_HDR_BYTES);
    pipe.bytes.set(bytes.subarray(frame + ethBytes, packet + length), rest);
    pipe.end();
    done++;
  });
  return done;
}
