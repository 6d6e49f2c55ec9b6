// virtio 1.3, 5.4 Entropy Device. It has no feature bits and no configuration.

/** Queue number. virtio 1.3, 5.4.2 Virtqueues: buffers to be filled. */
export const VIRTIO_RNG_QUEUE_REQUEST = 0;
/** virtio 1.3, 5.4.2 Virtqueues: how many. */
export const VIRTIO_RNG_QUEUES = 1;
