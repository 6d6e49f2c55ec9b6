/** An open file, as requests use it. `HostFile` is one. */
export interface RingFile {
  /** The host's number. */
  readonly hostFd: number;
  /** A regular file or a block device. */
  readonly isBounded: boolean;
  /** Writes with the same number go one after the other. */
  readonly hash: number | undefined;
  /** References; a request has one while it is worked on. */
  count: number;
  /** One reference less. */
  put(): void;
}

/** The open files that SQEs name by number. Linux: files_struct. */
export interface FileTable {
  /** The file at `fd`, if requests can use it. */
  get(fd: number): RingFile | undefined;
  /** Puts a file that a worker opened in; gives its descriptor, or a negative error number. */
  install(hostFd: number): number;
  /** Takes one out. @returns 0, or a negative error number. */
  close(fd: number): number;
}
