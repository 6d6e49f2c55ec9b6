import type { Scene, Seen } from "../machine/index.js";

/** One call in so many meets a signal. */
const EVERY = 7;

export function run({ main, attempt }: Scene): Seen {
  const owner = main.fork();
  owner.sigaction("SIGUSR1", () => {});
  let calls = 0;
  owner.onEntry = () => {
    calls++;
    if (calls % EVERY === 0) main.kill(owner.pid, "SIGUSR1");
  };
  const results: string[] = [];
  for (let round = 0; round < 300; round++) {
    const fd = owner.open("/dev/vhost-vsock");
    results.push(owner.ioctl(fd, "VHOST_SET_OWNER"));
    owner.close(fd);
  }
  const forks: string[] = [];
  for (let round = 0; round < 50; round++) {
    forks.push(attempt(() => owner.clone(["CLONE_VM"]).exitGroup()));
  }
  return {
    some_ok: results.includes("OK"),
    some_ENOMEM: results.includes("ENOMEM"),
    other_errno: results.filter((result) => !["OK", "ENOMEM"].includes(result)).length,
    fork_failures: forks.filter((result) => result !== "OK").length,
    fork_some_ok: forks.includes("OK"),
  };
}
