// How calls fail: as in C, by the name of an errno.

/** A call that failed. `code` is the name of an errno. */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  constructor(readonly code: string) {
    super(code);
  }
}

/** The script asks for something that no program could do, or that the machine does not have. */
export class ScriptError extends Error {
  override readonly name = "ScriptError";
}

/** The name of the errno that `error` stands for; anything else is a mistake, and is thrown on. */
export function codeOf(error: unknown): string {
  const code = error instanceof Error && (error as { code?: unknown }).code;
  const isErrno = typeof code === "string" && /^E[A-Z0-9]+$/.test(code);
  if (isErrno && /^(SyscallError|VhostError)$/.test((error as Error).name)) return code;
  throw error;
}

/** Makes a call: "OK", or the name of the errno that it failed with. */
export function attempt(call: () => unknown): string {
  try {
    call();
    return "OK";
  } catch (error) {
    return codeOf(error);
  }
}
