// Explores every interleaving of a machine, breadth first, and looks for a state from which the
// work can't be finished any more unless somebody who sleeps wakes by itself: a lost wake-up.

import type { Machine, MachineState } from "./machine.js";

/** So many states at most: more is a mistake in the model. */
const STATES_MAX = 2_000_000;

/** What was found. */
export interface Verdict {
  /** Different states that were reached. */
  states: number;
  /** "fine"; "lost": a wake-up was; "broken": a check failed. */
  outcome: "fine" | "lost" | "broken";
  /** How it came to that, one line a step, the shortest way; empty when all is fine. */
  trace: string[];
}

/** The states that were reached, in the order in which they were, and how they hang together. */
class Graph {
  readonly codes: string[] = [];
  readonly parents: number[] = [];
  readonly #numbers = new Map<string, number>();
  /** Pairs: from, to. Without those that are there by chance. */
  readonly edges: number[] = [];

  /** The number of a state, which is new when it is the last one. */
  add(code: string, parent: number): number {
    const known = this.#numbers.get(code);
    if (known !== undefined) return known;
    const number = this.codes.length;
    if (number === STATES_MAX) throw new Error(`more than ${STATES_MAX} states`);
    this.#numbers.set(code, number);
    this.codes.push(code);
    this.parents.push(parent);
    return number;
  }

  /**
   * For each state, a number that some step from it makes smaller, down to 0, which the goals have;
   * -1 where there is no way to a goal.
   */
  distancesTo(goals: readonly number[]): Int32Array {
    const count = this.codes.length;
    const before: number[][] = Array.from({ length: count }, () => []);
    for (let i = 0; i < this.edges.length; i += 2) {
      (before[this.edges[i + 1] as number] as number[]).push(this.edges[i] as number);
    }
    const distances = new Int32Array(count).fill(-1);
    for (const goal of goals) distances[goal] = 0;
    const todo = [...goals];
    for (let at = 0; at < todo.length; at++) {
      const to = todo[at] as number;
      for (const from of before[to] as number[]) {
        if (distances[from] !== -1) continue;
        distances[from] = (distances[to] as number) + 1;
        todo.push(from);
      }
    }
    this.#certify(distances);
    return distances;
  }

  /** Makes sure of `distancesTo`, in another way: what it says is what the verdict rests on. */
  #certify(distances: Int32Array): void {
    const best = new Int32Array(distances.length).fill(-1);
    for (let i = 0; i < this.edges.length; i += 2) {
      const from = this.edges[i] as number;
      const there = distances[this.edges[i + 1] as number] as number;
      const known = best[from] as number;
      if (there >= 0 && (known < 0 || there < known)) best[from] = there;
    }
    const isWrong = distances.some((distance, state) => {
      const least = best[state] as number;
      if (distance < 0) return least >= 0;
      return distance > 0 && (least < 0 || least >= distance);
    });
    if (isWrong) throw new Error("the checker contradicts itself");
  }
}

/**
 * Explores all. `isDone`: the work is finished. A machine is fine when no check ever fails and,
 * from every state that can be reached, one that is done can be, without sleepers that wake by
 * themselves. (So a thread that polls for ever is no excuse for one that sleeps.)
 */
export function explore(machine: Machine, isDone: (state: MachineState) => boolean): Verdict {
  const graph = new Graph();
  const done: number[] = [];
  const states: (MachineState | undefined)[] = [];
  const reach = (state: MachineState, from: number) => {
    const number = graph.add(machine.encode(state), from);
    if (number === states.length) states.push(state);
    return number;
  };
  for (const start of machine.start()) reach(start, -1);
  for (let from = 0; from < states.length; from++) {
    const state = states[from] as MachineState;
    states[from] = undefined;
    if (isDone(state)) done.push(from);
    for (const { state: next, tell, isSpurious, failure } of machine.moves(state)) {
      if (failure !== undefined) {
        const trace = [...traceTo(machine, graph, from), tell(), failure];
        return { states: graph.codes.length, outcome: "broken", trace };
      }
      const to = reach(next, from);
      if (!isSpurious) graph.edges.push(from, to);
    }
  }
  const lost = firstLost(machine, graph, graph.distancesTo(done));
  if (lost < 0) return { states: graph.codes.length, outcome: "fine", trace: [] };
  const trace = [...traceTo(machine, graph, lost), sleepers(machine, graph, lost)];
  return { states: graph.codes.length, outcome: "lost", trace };
}

/**
 * The first state from which there is no way out: one in which nobody moves, else one in which
 * somebody sleeps, else any.
 */
function firstLost(machine: Machine, graph: Graph, distances: Int32Array): number {
  let sleeping = -1;
  const lost = distances.indexOf(-1);
  for (let at = lost; at >= 0; at = distances.indexOf(-1, at + 1)) {
    const state = machine.decode(graph.codes[at] as string);
    if (machine.moves(state).every(({ isSpurious }) => isSpurious)) return at;
    if (sleeping < 0 && asleep(machine, graph, at).length > 0) sleeping = at;
  }
  return sleeping < 0 ? lost : sleeping;
}

/** The threads that sleep, and will not be woken by what is there. */
function asleep(machine: Machine, graph: Graph, number: number): string[] {
  const state = machine.decode(graph.codes[number] as string);
  const moves = machine.moves(state).filter(({ isSpurious }) => !isSpurious);
  const moving = new Set(moves.map(({ thread }) => thread));
  return machine.programs
    .filter((_, index) => !moving.has(index) && machine.step(state, index).kind !== "end")
    .map(({ name }) => name);
}

function sleepers(machine: Machine, graph: Graph, number: number): string {
  const names = asleep(machine, graph, number);
  return names.length > 0 ? `${names.join(" and ")}: asleep for ever` : "no way out";
}

/** The steps from the beginning to a state. */
function traceTo(machine: Machine, graph: Graph, number: number): string[] {
  const trace: string[] = [];
  for (let to = number; graph.parents[to] !== -1; to = graph.parents[to] as number) {
    const from = machine.decode(graph.codes[graph.parents[to] as number] as string);
    const code = graph.codes[to];
    const move = machine.moves(from).find(({ state }) => machine.encode(state) === code);
    trace.unshift(move?.tell() ?? "?");
  }
  return trace;
}
