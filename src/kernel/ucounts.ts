/** A user, as seen in a user namespace; 0 is the machine's own. */
export interface User {
  readonly uid: number;
  readonly userNs: number;
}

/** A user namespace: who made it, and how many tasks its users may make the maker have. */
export interface UserNamespace {
  readonly owner: User;
  /** Linux: rlimit_max[UCOUNT_RLIMIT_NPROC]. */
  readonly nprocMax: number;
}

const keyOf = ({ uid, userNs }: User): string => `${userNs}:${uid}`;

/**
 * How many tasks each real user has, the kernel's own included. A task in a user namespace is
 * counted there, and as one of whoever made the namespace. Linux: ucounts, RLIMIT_NPROC.
 */
export class Ucounts {
  readonly #nproc = new Map<string, number>();
  readonly #namespaces = new Map<number, UserNamespace>();

  /** Tasks of `uid` in a user namespace, zombies included. */
  nproc(uid: number, userNs = 0): number {
    return this.#nproc.get(keyOf({ uid, userNs })) ?? 0;
  }

  /** Makes a user namespace known, by its number. Linux: create_user_ns(). */
  addNamespace(userNs: number, namespace: UserNamespace): void {
    this.#namespaces.set(userNs, namespace);
  }

  /**
   * Counts one more task of `user`; the limit is the caller's to test. Linux: inc_rlimit_ucounts().
   */
  inc(user: User): void {
    for (const one of this.#upwards(user)) this.#add(one, 1);
  }

  /** Counts one task less; forgets a user without tasks. Linux: dec_rlimit_ucounts(). */
  dec(user: User): void {
    for (const one of this.#upwards(user)) this.#add(one, -1);
  }

  /**
   * Whether the user has more tasks than `limit`, or a maker of a namespace around it more than
   * that one's limit. Linux: is_rlimit_overlimit().
   */
  isOver(user: User, limit: number): boolean {
    let most = limit;
    for (const one of this.#upwards(user)) {
      if (this.nproc(one.uid, one.userNs) > most) return true;
      most = this.#namespaces.get(one.userNs)?.nprocMax ?? Number.POSITIVE_INFINITY;
    }
    return false;
  }

  *#upwards(user: User): Iterable<User> {
    for (let at: User | undefined = user; at; at = this.#namespaces.get(at.userNs)?.owner) yield at;
  }

  #add(user: User, count: number): void {
    const nproc = this.nproc(user.uid, user.userNs) + count;
    if (nproc > 0) this.#nproc.set(keyOf(user), nproc);
    else this.#nproc.delete(keyOf(user));
  }
}
