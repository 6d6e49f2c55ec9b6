// virtio 1.3, 5.3 Console Device.

/** Feature bit number. virtio 1.3, 5.3.3 Feature bits: `cols` and `rows` are valid. */
export const VIRTIO_CONSOLE_F_SIZE = 0;
/** virtio 1.3, 5.3.3 Feature bits: several ports, and control queues. */
export const VIRTIO_CONSOLE_F_MULTIPORT = 1;
/** virtio 1.3, 5.3.3 Feature bits: `emerg_wr` may be written. */
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2;

/** Queue number. virtio 1.3, 5.3.2 Virtqueues: port 0, to the driver; its other one follows. */
export const VIRTIO_CONSOLE_QUEUE_RX = 0;
/** virtio 1.3, 5.3.2 Virtqueues: messages to the driver. */
export const VIRTIO_CONSOLE_QUEUE_CONTROL_RX = 2;
/** virtio 1.3, 5.3.2 Virtqueues: messages to the device. */
export const VIRTIO_CONSOLE_QUEUE_CONTROL_TX = 3;

/** The queue to the driver of a port; the one to the device follows it. virtio 1.3, 5.3.2. */
export function consoleRxQueue(port: number): number {
  return port === 0 ? VIRTIO_CONSOLE_QUEUE_RX : 2 * port + VIRTIO_CONSOLE_QUEUE_CONTROL_RX;
}

/** Bytes of the configuration space. virtio 1.3, 5.3.4 Device configuration layout. */
export const VIRTIO_CONSOLE_CONFIG_BYTES = 12;
/** Offset, le16. virtio 1.3, 5.3.4 Device configuration layout. */
export const VIRTIO_CONSOLE_CONFIG_COLS = 0;
/** Offset, le16. */
export const VIRTIO_CONSOLE_CONFIG_ROWS = 2;
/** Offset, le32. */
export const VIRTIO_CONSOLE_CONFIG_MAX_NR_PORTS = 4;
/** Offset, le32, of which the lowest byte counts: written by the driver. */
export const VIRTIO_CONSOLE_CONFIG_EMERG_WR = 8;

/** Bytes of `struct virtio_console_control`. virtio 1.3, 5.3.6.2 Multiport Device Operation. */
export const VIRTIO_CONSOLE_CONTROL_BYTES = 8;
/** Offset, le32: the port. */
export const VIRTIO_CONSOLE_CONTROL_ID = 0;
/** Offset, le16. */
export const VIRTIO_CONSOLE_CONTROL_EVENT = 4;
/** Offset, le16. */
export const VIRTIO_CONSOLE_CONTROL_VALUE = 6;
/** Bytes behind a RESIZE: le16 cols, le16 rows. virtio 1.3, 5.3.6.2. */
export const VIRTIO_CONSOLE_RESIZE_BYTES = 4;

/** `event`. virtio 1.3, 5.3.6.2: from the driver: it is ready (1), or it has failed (0). */
export const VIRTIO_CONSOLE_DEVICE_READY = 0;
/** From the device: there is a port. Linux, and 1.0: VIRTIO_CONSOLE_PORT_ADD. */
export const VIRTIO_CONSOLE_PORT_ADD = 1;
/** From the device: the port is gone. */
export const VIRTIO_CONSOLE_PORT_REMOVE = 2;
/** From the driver: it can use the port (1), or can't (0). */
export const VIRTIO_CONSOLE_PORT_READY = 3;
/** From the device: the port is a console. */
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4;
/** From the device: the console has another size. */
export const VIRTIO_CONSOLE_RESIZE = 5;
/** From either: the port is open (1) or closed (0) there. */
export const VIRTIO_CONSOLE_PORT_OPEN = 6;
/** From the device: the port's name follows, without a zero at its end. */
export const VIRTIO_CONSOLE_PORT_NAME = 7;
