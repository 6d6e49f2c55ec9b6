import { IOSQE_IO_DRAIN } from "../spec/io-uring.js";
import type { Request } from "./request.js";

/**
 * Chains of requests in the order in which they may begin: one with IOSQE_IO_DRAIN when all before
 * it are done, and none after it before it is. Pure state. Linux: io_drain_req().
 */
export class Chains {
  readonly #waiting: Request[][] = [];
  #active = 0;
  #draining = 0;

  /** Puts a chain last, and links its requests. */
  push(chain: Request[]): void {
    const isDrain = chain.some(({ flags }) => (flags & IOSQE_IO_DRAIN) !== 0);
    for (const [i, request] of chain.entries()) {
      request.isDrain = isDrain;
      request.next = chain[i + 1] ?? null;
    }
    this.#waiting.push(chain);
  }

  /** The first request of a chain that may begin now; its requests count until they are done. */
  begin(): Request | undefined {
    const [chain] = this.#waiting;
    const [head] = chain ?? [];
    if (chain === undefined || head === undefined) return undefined;
    if (head.isDrain ? this.#active > 0 : this.#draining > 0) return undefined;
    this.#waiting.shift();
    this.#active += chain.length;
    if (head.isDrain) this.#draining += chain.length;
    return head;
  }

  /** A request of a chain that has begun is done. */
  done(request: Request): void {
    this.#active--;
    if (request.isDrain) this.#draining--;
  }

  /** Takes out the first chain that waits and has a request that `match` names. */
  remove(match: (request: Request) => boolean): Request[] {
    const index = this.#waiting.findIndex((chain) => chain.some(match));
    return index < 0 ? [] : (this.#waiting.splice(index, 1)[0] as Request[]);
  }
}
