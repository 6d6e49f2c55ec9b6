// Files that reads may have to wait on: pipes, and FIFOs by name.

/** A pipe. Its ends are open files; a FIFO has a name besides. */
export class Pipe {
  bytes = 0;
  readers = 0;
  writers = 0;
  /** Opens for reading that wait for a writer. */
  waitingReaders = 0;

  constructor(readonly capacity = 65536) {}

  /** Takes up to `length` bytes: how many, 0 at the end of file; `undefined`: it has to wait. */
  read(length: number): number | undefined {
    if (this.bytes === 0) return this.writers === 0 ? 0 : undefined;
    const count = Math.min(length, this.bytes);
    this.bytes -= count;
    return count;
  }

  /** Puts bytes in: how many; `undefined`: it is full. */
  write(length: number): number | undefined {
    const count = Math.min(length, this.capacity - this.bytes);
    this.bytes += count;
    return count > 0 || length === 0 ? count : undefined;
  }
}

/** What a descriptor of a pipe's end refers to. */
export interface PipeEnd {
  readonly pipe: Pipe;
  readonly reads: boolean;
  readonly writes: boolean;
}

/** Whether it is one. */
export const isPipeEnd = (opened: unknown): opened is PipeEnd =>
  typeof opened === "object" && opened !== null && "pipe" in opened;
