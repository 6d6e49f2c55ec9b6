// The checking loops of need-event.test.ts, compiled together with the product's event.ts: 2^32
// cases take seconds in WebAssembly. What is expected is found by walking, entry by entry.

import { needEvent } from "../../../assembly/event";

/** The product's rule, and wrong ones that the loops must find wrong. */
function rule(flaw: u32, event: u32, new_: u32, old: u32): bool {
  if (flaw == 0) return needEvent(event, new_, old);
  if (flaw == 1) return ((new_ - event - 1) & 0xffff) <= ((new_ - old) & 0xffff);
  if (flaw == 2) return ((new_ - event) & 0xffff) < ((new_ - old) & 0xffff);
  if (flaw == 3) return <i32>(new_ - event - 1) < <i32>(new_ - old);
  return event >= old && event < new_;
}

/**
 * Lets a side go from `old` all the way round, for every event from `first` to `last` entries after
 * `old`. While it has not left the event's entry behind, after as many steps as that is ahead, the
 * event is not wanted; after all further steps it is. Returns the cases in which the product's rule
 * says otherwise.
 */
export function walkAll(old: u32, first: u32, last: u32): u32 {
  let wrong: u32 = 0;
  for (let ahead = first; ahead <= last; ahead++) {
    const event = (old + ahead) & 0xffff;
    let steps: u32 = 0;
    for (; steps <= ahead; steps++) {
      if (needEvent(event, (old + steps) & 0xffff, old)) wrong++;
    }
    for (; steps < 0x10000; steps++) {
      if (!needEvent(event, (old + steps) & 0xffff, old)) wrong++;
    }
  }
  return wrong;
}

/** The same of any rule, and entry by entry: was the event's among those that were left behind? */
export function walkSlowly(flaw: u32, old: u32, first: u32, last: u32): u32 {
  let wrong: u32 = 0;
  for (let ahead = first; ahead <= last; ahead++) {
    const event = (old + ahead) & 0xffff;
    let isBehind = false;
    let new_ = old;
    for (let steps: u32 = 0; steps < 0x10000; steps++) {
      if (rule(flaw, event, new_, old) != isBehind) wrong++;
      if (new_ == event) isBehind = true;
      new_ = (new_ + 1) & 0xffff;
    }
  }
  return wrong;
}

/** One more random number. */
function random(state: u64): u64 {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^ (state << 17);
}

/** `count` random triples, each also moved by a random constant: how often the answer changes. */
export function moveRandom(flaw: u32, start: u32, count: u32): u32 {
  let changes: u32 = 0;
  let seed = (<u64>start + 1) * 0x9e3779b97f4a7c15;
  for (; count > 0; count--) {
    seed = random(seed);
    const event = <u32>(seed & 0xffff);
    const new_ = <u32>((seed >> 16) & 0xffff);
    const old = <u32>((seed >> 32) & 0xffff);
    const by = <u32>(seed >> 48);
    const moved = rule(flaw, (event + by) & 0xffff, (new_ + by) & 0xffff, (old + by) & 0xffff);
    if (moved != rule(flaw, event, new_, old)) changes++;
  }
  return changes;
}

const EDGES: u32 = 51;

/** Where indices may go wrong: the ends, the middle, powers of two, each with its neighbours. */
function edge(which: u32): u32 {
  return (((<u32>1) << (which / 3)) + (which % 3) - 1) & 0xffff;
}

/** All triples of edges, each moved by `by`: how often the answer changes. */
export function moveEdges(flaw: u32, by: u32): u32 {
  let changes: u32 = 0;
  for (let e: u32 = 0; e < EDGES; e++) {
    const event = edge(e);
    for (let n: u32 = 0; n < EDGES; n++) {
      const new_ = edge(n);
      for (let o: u32 = 0; o < EDGES; o++) {
        const old = edge(o);
        const moved = rule(flaw, (event + by) & 0xffff, (new_ + by) & 0xffff, (old + by) & 0xffff);
        if (moved != rule(flaw, event, new_, old)) changes++;
      }
    }
  }
  return changes;
}
