import type { Scene, Seen } from "../machine/index.js";

/** Bytes of struct vhost_msg, and its type. */
const MSG_BYTES = 72;
const IOTLB_MSG = 1;

export function run({ main, attempt }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const nonblock = main.open("/dev/vhost-vsock", "O_RDWR | O_NONBLOCK");
  main.ioctl(nonblock, "VHOST_SET_OWNER");
  const message = new Uint8Array(MSG_BYTES);
  const write_type0 = attempt(() => main.writeBytes(fd, message));
  new DataView(message.buffer).setInt32(0, IOTLB_MSG, true);
  const revents = main.poll(fd);
  return {
    read_nonblock: attempt(() => main.readBytes(nonblock, MSG_BYTES)),
    read_short_buf: main.readBytes(fd, 4),
    read_blocking_no_iotlb: attempt(() => main.readBytes(fd, MSG_BYTES)),
    write_short: attempt(() => main.writeBytes(fd, 2)),
    write_type0,
    write_iotlb_msg_zero: attempt(() => main.writeBytes(fd, message)),
    poll: revents === 0 ? 0 : 1,
    revents,
    mmap: main.mapFile(fd),
    lseek: main.lseek(fd),
  };
}
