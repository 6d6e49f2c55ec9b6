import type { Scene, Seen } from "../machine/index.js";

const KERNEL = 0xffff_8000_0000_0000n;

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const { rx: ring } = main.mapVsockRings();
  const good = {
    index: 0,
    flags: 0,
    desc_user_addr: BigInt(ring.desc),
    avail_user_addr: BigInt(ring.avail),
    used_user_addr: BigInt(ring.used),
    log_guest_addr: 0n,
  };
  const set = (more: object) => main.ioctl(fd, "VHOST_SET_VRING_ADDR", { ...good, ...more });
  const seen: Seen = { ok: set({}) };
  for (const off of [1n, 2n, 4n, 8n]) {
    seen[`desc_off_${off}`] = set({ desc_user_addr: good.desc_user_addr + off });
    seen[`avail_off_${off}`] = set({ avail_user_addr: good.avail_user_addr + off });
    seen[`used_off_${off}`] = set({ used_user_addr: good.used_user_addr + off });
    seen[`log_off_${off}`] = set({ log_guest_addr: off });
    seen[`log_off_${off}_with_flag`] = set({ log_guest_addr: off, flags: 1 });
  }
  const nowhere = (at: bigint) => ({ desc_user_addr: at, avail_user_addr: at, used_user_addr: at });
  return {
    ...seen,
    flags_1: set({ flags: 1 }),
    flags_2: set({ flags: 2 }),
    flags_3: set({ flags: 3 }),
    flags_0x80000000: set({ flags: 0x80000000 }),
    null: set(nowhere(0n)),
    kernel_addr: set(nowhere(KERNEL)),
    bad_flag_and_misaligned: set({ flags: 2, used_user_addr: good.used_user_addr + 1n }),
    badptr: main.ioctl(fd, "VHOST_SET_VRING_ADDR"),
  };
}
