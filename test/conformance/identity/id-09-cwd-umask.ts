import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, attempt }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const before = main.cwd(worker) === main.cwd(main.tid);
  main.chdir("/tmp");
  main.umask(0o77);
  const umask_after = main.status(worker).Umask;
  const cwd_after = main.cwd(worker);
  const unshare_fs = main.unshare(["CLONE_FS"]);
  main.umask(0o7);
  main.chdir("/");
  return {
    before,
    umask_after,
    cwd_after,
    unshare_fs,
    umask_after_unshare: main.status(worker).Umask,
    cwd_after_unshare: main.cwd(worker),
    unshare_vm: main.unshare(["CLONE_VM"]),
    unshare_newuser: main.unshare(["CLONE_NEWUSER"]),
    unshare_files: main.unshare(["CLONE_FILES"]),
    status_still_read: attempt(() => main.status(worker)),
  };
}
