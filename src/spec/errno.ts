/** Error names of Linux and their numbers, as far as the product uses them. */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EPROTO: 71,
  EBADFD: 77,
  ENOTSOCK: 88,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EALREADY: 114,
  ECANCELED: 125,
  /** Linux, within the kernel: the call is begun again once the signal is handled. */
  ERESTARTNOINTR: 513,
} as const;

/** The name of an error: `"EAGAIN"`, `"EINVAL"` … */
export type Errno = keyof typeof errno;

const names = new Map<number, Errno>(
  Object.entries(errno).map(([name, number]) => [number, name as Errno]),
);

/** The name of an error number of the system's, if it has one here. */
export const errnoName = (number: number): Errno | undefined => names.get(number);

/** The code of what the system threw, if it has a name here; else EIO. */
export function errnoOf(error: unknown): Errno {
  const { code } = error as { code?: string };
  return code !== undefined && code in errno ? (code as Errno) : "EIO";
}

/** What Node's error says, without the code before it and the call behind it. */
export function whyOf(error: unknown): string {
  return (error as Error).message.replace(/^E\w+: /, "").replace(/, \w+ '.*$/s, "");
}

/**
 * The one error class: a name to test (`code`), a sentence for a person that says what to do, and
 * the facts it rests on. Thrown for misuse by the caller and for host failures; never by what a
 * guest writes in a ring.
 */
export class VhostError extends Error {
  override readonly name = "VhostError";
  readonly code: Errno;
  readonly facts: Readonly<Record<string, unknown>>;

  /** `message` without the code: it is put in front. */
  constructor(code: Errno, message: string, facts: Record<string, unknown> = {}, cause?: unknown) {
    super(`${code}: ${message}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.facts = facts;
  }
}
