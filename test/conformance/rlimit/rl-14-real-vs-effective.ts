import type { Scene, Seen } from "../machine/index.js";
import type { Proc } from "../machine/proc.js";

const setOwner = (process: Proc): string =>
  process.ioctl(process.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");

export function run({ main, attempt }: Scene): Seen {
  const real = main.fork();
  real.setrlimit("NPROC", 0, 0);
  real.setresuid({ uid: 0, euid: 20080, suid: 20080 });
  const seen: Seen = {
    ruid0_euid20080_limit0_set_owner: setOwner(real),
    ruid0_euid20080_limit0_pthread: attempt(() => real.pthreadCreate()),
  };
  const effective = main.fork();
  effective.setrlimit("NPROC", 1, 1);
  effective.setresuid({ uid: 20081, euid: 0, suid: 0 });
  const able = effective.open("/dev/vhost-vsock");
  seen.ruid20081_euid0_allcaps_limit1_set_owner = effective.ioctl(able, "VHOST_SET_OWNER");
  effective.close(able);
  effective.capset([]);
  seen.ruid20081_euid0_nocaps_limit1_set_owner = setOwner(effective);
  return seen;
}
