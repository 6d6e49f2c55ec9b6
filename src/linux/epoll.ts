import { arch } from "node:os";

// struct epoll_event: packed on x86, padded elsewhere.
const isPacked = arch() === "x64";

/** Bytes of a struct epoll_event. */
export const EPOLL_EVENT_BYTES = isPacked ? 12 : 16;
/** Where its data begins; we keep a token there, as an int. */
export const EPOLL_EVENT_FD = isPacked ? 4 : 8;
/** The token that ends the thread. */
export const EPOLL_STOP = -1;
/** How long it waits at most, so that a program that exits is not kept by it for longer. */
export const EPOLL_WAIT_MS = 1000;
