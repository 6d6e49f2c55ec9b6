import { VhostError } from "../spec/errno.js";
import { featureMask, hasFeature } from "../spec/features.js";
import { checkNames } from "../spec/options.js";
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
} from "../spec/virtio-config.js";
import { Completions } from "./completions.js";
import { Queue } from "./queue.js";
import type { Transport } from "./transport.js";

/**
 * What a driver may ask for beside its device's own features. What is asked for and not offered is
 * EOPNOTSUPP: policy linux, for one, has none of `packed`, `inOrder` and `notificationData`.
 */
export interface ProbeOptions {
  /** Entries of each queue, a power of two unless packed; default, most: what is offered. */
  queueSize?: number;
  /** Offer bits (numbers) that the driver is to leave alone, for tests and benches. */
  withoutFeatures?: readonly number[];
  /** Packed virtqueues. Default false: split ones. */
  packed?: boolean;
  /** Buffers come back in order (VIRTIO_F_IN_ORDER). Default false. */
  inOrder?: boolean;
  /** Kicks say up to where (VIRTIO_F_NOTIFICATION_DATA). Default false. */
  notificationData?: boolean;
}

/** A device that is ready: negotiated, with all of its queues live. */
export interface Probed {
  readonly transport: Transport;
  readonly features: bigint;
  readonly config: Uint8Array;
  readonly queues: readonly Queue[];
  /** Set by `remove`, which is done once. */
  removal?: Promise<void>;
}

const RING_BITS = [
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_RING_RESET,
];

/** What is negotiated when it is asked for, by the option's name. */
const OPTIONAL = {
  packed: VIRTIO_F_RING_PACKED,
  inOrder: VIRTIO_F_IN_ORDER,
  notificationData: VIRTIO_F_NOTIFICATION_DATA,
};
const OPTIONS = ["queueSize", ...Object.keys(OPTIONAL), "withoutFeatures"];

/**
 * The features to accept: of the rings, and those of `known` (bit numbers). Throws EOPNOTSUPP for a
 * device older than virtio 1, and for what is asked for and not offered.
 */
export function chooseFeatures(
  transport: Transport,
  known: readonly number[],
  options: ProbeOptions,
): bigint {
  const { deviceFeatures } = transport;
  if (!hasFeature(deviceFeatures, VIRTIO_F_VERSION_1)) {
    throw new VhostError("EOPNOTSUPP", "the device does not offer VIRTIO_F_VERSION_1");
  }
  const asked = Object.entries(OPTIONAL).filter(([name]) => options[name as keyof ProbeOptions]);
  for (const [name, number] of asked) {
    if (hasFeature(deviceFeatures, number)) continue;
    throw new VhostError("EOPNOTSUPP", `the device does not offer ${name}: leave that option out`);
  }
  const wanted = [...RING_BITS, ...asked.map(([, number]) => number), ...known].filter(
    (n) => !options.withoutFeatures?.includes(n),
  );
  return featureMask(...wanted) & deviceFeatures;
}

/** How many queues a device has, under the features that were accepted; it may lie. */
export type QueueCount = (features: bigint, config: Uint8Array) => number;

/**
 * Brings a device up in the order of virtio 1.3, 3.1.1 Driver Requirements: Device Initialization.
 * `known`: feature bit numbers of the device's class that the driver knows. `queueCount`: where not
 * all of the device's queues are there whatever the features. Rejects with the cause, after setting
 * FAILED and resetting.
 */
export async function probe(
  transport: Transport,
  known: readonly number[],
  options: ProbeOptions = {},
  queueCount: QueueCount = () => transport.queueCount,
): Promise<Probed> {
  const queues: Queue[] = [];
  const add = (status: number) => transport.setStatus(transport.status | status);
  try {
    checkNames("a driver", options, OPTIONS);
    await transport.setStatus(0);
    await add(VIRTIO_CONFIG_S_ACKNOWLEDGE);
    await add(VIRTIO_CONFIG_S_DRIVER);
    const features = chooseFeatures(transport, known, options);
    transport.setFeatures(features);
    await add(VIRTIO_CONFIG_S_FEATURES_OK);
    if ((transport.status & VIRTIO_CONFIG_S_FEATURES_OK) === 0) {
      throw new VhostError("EOPNOTSUPP", "the device refused the features", { features });
    }
    const config = await transport.readConfig();
    const completions = new Completions(transport);
    const count = Math.min(queueCount(features, config), transport.queueCount);
    for (let index = 0; index < count; index++) {
      const num = options.queueSize ?? transport.queueSizeMax;
      const queue = new Queue(transport, index, num, features, () => completions.start());
      queues.push(queue);
      completions.add(queue);
    }
    await add(VIRTIO_CONFIG_S_DRIVER_OK);
    transport.onDeath((error) => {
      for (const queue of queues) queue.fail(error);
    });
    transport.onQueueDeath?.((index, error) => queues[index]?.fail(error));
    return { transport, features, config, queues };
  } catch (error) {
    await add(VIRTIO_CONFIG_S_FAILED).catch(() => {});
    await transport.setStatus(0).catch(() => {});
    for (const queue of queues) queue.release();
    throw error;
  }
}

/** A queue. Throws ENOBUFS when there is no such one. */
export function queueAt({ queues }: Probed, index: number): Queue {
  const queue = queues[index];
  if (queue) return queue;
  throw new VhostError("ENOBUFS", `there is no queue ${index}`);
}

/** Resets the device, rejects what is in flight with ENODEV, gives the memory back. Idempotent. */
export function remove(probed: Probed): Promise<void> {
  probed.removal ??= removeOnce(probed);
  return probed.removal;
}

async function removeOnce({ transport, queues }: Probed): Promise<void> {
  const gone = new VhostError("ENODEV", "the driver is closed");
  for (const queue of queues) queue.close(gone);
  await Promise.all(queues.map((queue) => queue.settled()));
  try {
    await transport.setStatus(0);
  } finally {
    for (const queue of queues) {
      queue.fail(gone); // not before the reset: until then the memory is the device's
      queue.release();
    }
    transport.detach();
  }
}
