// The machine of the model: threads, their registers, and a memory that is as weak as C11's without
// promises ("views"). Every place keeps the writes that somebody may still read, in their order. A
// thread has a view: for each place, the oldest write that it may still read. A load may read any
// write that is not older; so a store may be late for others, and loads may be done out of order.
// An acquiring load of a releasing store takes over the writer's view. A sequentially consistent
// load reads the last sequentially consistent store to its place, or a later one.
//
// What a TSO machine's store buffers allow is allowed here too, and more. Not modelled: a load that
// is delayed past a later store of its own thread; two stores to one place that change places; a
// store that more than READABLE_MAX later ones overtake.

import type { Program, Registers, Step } from "./program.js";

/** A write that may still be read. */
interface Message {
  value: number;
  /** By weak place: what one who acquires it may not read behind. */
  view: readonly number[];
}

/** A thread at one moment. */
export interface ThreadState {
  pc: number;
  /** The place at which it sleeps, by number; or AWAKE, or WOKEN. */
  asleepAt: number;
  registers: Registers;
  view: readonly number[];
}

/** All there is, at one moment. Never changed: a step makes a new one. */
export interface MachineState {
  threads: readonly ThreadState[];
  /** By place, oldest write first. Of a place with sequentially consistent accesses alone: one. */
  memory: readonly (readonly Message[])[];
  /** By weak place: the last sequentially consistent write. */
  sc: readonly number[];
}

/** A step that could be done, and what comes of it. */
export interface Move {
  /** Which thread does it. */
  thread: number;
  /** In words, for a trace. */
  tell(): string;
  state: MachineState;
  /** Somebody who sleeps woke up by itself: by chance, or because a timeout ran out. */
  isSpurious: boolean;
  /** What should have held, and does not. */
  failure: string | undefined;
}

type AnyProgram = Program<Registers>;
type Shared<Kind> = Extract<Step<Registers>, { kind: Kind }>;
type Add = (
  tellMore: () => string,
  next: MachineState,
  after: ThreadState,
  isSpurious?: boolean,
) => void;
type Thread = { state: ThreadState; failure: string | undefined };

/** So many writes of a place can be read at most: a write is late by so many others, no more. */
const READABLE_MAX = 4;

const AWAKE = -1;
/** Somebody ended its sleep, and it has not gone on yet. */
const WOKEN = -2;

/** What the programs may do. */
export class Machine {
  readonly programs: readonly AnyProgram[];
  readonly #bytes = Buffer.alloc(4096);
  readonly #places: readonly string[];
  readonly #placeOf: ReadonlyMap<string, number>;
  /** By place: which weak place it is, or -1. */
  readonly #weakOf: readonly number[];
  readonly #weak: readonly number[];
  readonly #registers: readonly (readonly string[])[];
  /** By program and step: where it jumps to. */
  readonly #targets: readonly (readonly number[])[];
  readonly #initial: readonly number[];
  readonly #none: readonly number[];
  readonly #hasSpurious: boolean;
  readonly #show: (place: string, value: number) => string;

  /**
   * `memory`: each place's first value. `weak`: the places that some thread reads or writes other
   * than by sequentially consistent accesses. `hasSpurious`: sleepers may wake by themselves.
   * `show` puts values in words, for traces.
   */
  constructor(
    programs: readonly AnyProgram[],
    memory: Record<string, number>,
    weak: ReadonlySet<string>,
    hasSpurious: boolean,
    show = (_place: string, value: number) => String(value),
  ) {
    this.#show = show;
    this.programs = programs;
    this.#places = Object.keys(memory);
    this.#initial = Object.values(memory);
    this.#placeOf = new Map(this.#places.map((name, index) => [name, index]));
    this.#weak = this.#places.flatMap((name, index) => (weak.has(name) ? [index] : []));
    this.#none = this.#weak.map(() => 0);
    this.#weakOf = this.#places.map((_, index) => this.#weak.indexOf(index));
    this.#registers = programs.map(({ registers }) => Object.keys(registers));
    this.#targets = programs.map(({ steps, labels }) =>
      steps.map((step) => ("to" in step ? targetOf(labels, step.to) : -1)),
    );
    this.#hasSpurious = hasSpurious;
  }

  /** Where it may begin. */
  start(): MachineState[] {
    const none = this.#none;
    const memory = this.#initial.map((value) => [{ value, view: none }]);
    let starts: MachineState[] = [{ threads: [], memory, sc: none }];
    for (const [index, { registers }] of this.programs.entries()) {
      const thread = { pc: 0, asleepAt: AWAKE, registers: { ...registers }, view: none };
      const first = this.#settle(index, thread);
      starts = starts.flatMap((start) =>
        first.map(({ state }) => ({ ...start, threads: [...start.threads, state] })),
      );
    }
    return starts;
  }

  /** The step that a thread does next. */
  step({ threads }: MachineState, index: number): Step<Registers> {
    return this.programs[index]?.steps[threads[index]?.pc ?? 0] ?? { kind: "end" };
  }

  /** Everything that can happen next. */
  moves(state: MachineState): Move[] {
    const moves: Move[] = [];
    for (let index = 0; index < this.programs.length; index++) this.#movesOf(state, index, moves);
    return moves;
  }

  #movesOf(state: MachineState, index: number, moves: Move[]): void {
    const step = this.step(state, index);
    const thread = state.threads[index] as ThreadState;
    const add: Add = (tellMore, next, after, isSpurious = false) => {
      const say = "say" in step ? step.say : "";
      const tell = () => `${this.programs[index]?.name}: ${say}: ${tellMore()}`;
      for (const { state: settled, failure } of this.#settle(index, after)) {
        const { memory, sc } = next;
        const threads = replaced(next.threads, index, settled);
        const state = this.#forget({ threads, memory, sc });
        moves.push({ thread: index, tell, state, isSpurious, failure });
      }
    };
    if (thread.asleepAt !== AWAKE) {
      const awake = onward(thread);
      awake.asleepAt = AWAKE;
      if (thread.asleepAt === WOKEN) add(() => "is awake", state, awake);
      else if (this.#hasSpurious) add(() => "wakes by itself", state, awake, true);
    } else if (step.kind === "block") {
      const ready = step.at.filter((name) => this.#last(state, this.#place(name)).value !== 0);
      const isReady = ready.length > 0;
      const after = onward(thread);
      if (isReady) add(() => `goes on, by ${ready.join(", ")}`, state, after);
      else if (this.#hasSpurious) add(() => "wakes by itself", state, after, true);
    } else if (step.kind === "load") this.#load(state, thread, step, add);
    else if (step.kind !== "end") this.#act(state, thread, step, add);
  }

  #load(state: MachineState, thread: ThreadState, step: Shared<"load">, add: Add): void {
    const place = this.#place(step.at(thread.registers));
    const weak = this.#weakIf(place, step.order.sc);
    const messages = state.memory[place] as Message[];
    const first = weak < 0 ? 0 : (thread.view[weak] as number);
    const oldest = weak >= 0 && step.order.sc ? Math.max(first, state.sc[weak] as number) : first;
    for (let at = oldest; at < messages.length; at++) {
      const { value, view } = messages[at] as Message;
      const after = onward(thread);
      step.then(after.registers, value);
      const seen = weak < 0 ? thread.view : replaced(thread.view, weak, at);
      after.view = step.order.acqRel ? joined(seen, view) : seen;
      const tellMore = () => {
        const last = this.#tell(place, this.#last(state, place).value);
        const stale = at < messages.length - 1 ? ` (not yet ${last})` : "";
        return `${this.#places[place]} is ${this.#tell(place, value)}${stale}`;
      };
      add(tellMore, state, after);
    }
  }

  #act(state: MachineState, thread: ThreadState, step: Step<Registers>, add: Add): void {
    const after = onward(thread);
    if (!("at" in step) || typeof step.at !== "function") throw new Error("no such step");
    const place = this.#place(step.at(thread.registers));
    const name = this.#places[place] as string;
    const last = this.#last(state, place);
    if (step.kind === "store") {
      const value = step.value(thread.registers);
      const [next, view] = this.#written(state, after.view, place, value, step.order);
      after.view = view;
      add(() => `${name} = ${this.#tell(place, value)}`, next, after);
    } else if (step.kind === "rmw") {
      const value = step.update(last.value);
      const read = joined(after.view, last.view);
      const [next, view] = this.#written(state, read, place, value, step.order);
      step.then(after.registers, last.value);
      after.view = view;
      add(() => `${name} from ${last.value} to ${value}`, next, after);
    } else if (step.kind === "wait") {
      const isSame = last.value === step.expected(thread.registers);
      const tellMore = () => `${name} is ${last.value}, ${isSame ? "sleeps" : "does not sleep"}`;
      if (isSame) after.pc--;
      if (isSame) after.asleepAt = place;
      add(tellMore, state, after);
    } else if (step.kind === "notify") {
      const isAny = state.threads.some(({ asleepAt }) => asleepAt === place);
      const threads = state.threads.map((other) =>
        other.asleepAt === place ? { ...other, asleepAt: WOKEN } : other,
      );
      add(
        () => (isAny ? `wakes who sleeps at ${name}` : "nobody sleeps"),
        { ...state, threads },
        after,
      );
    }
  }

  /** After a write: the state, and the writer's view. */
  #written(
    state: MachineState,
    view: readonly number[],
    place: number,
    value: number,
    { acqRel, sc }: { acqRel: boolean; sc: boolean },
  ): [MachineState, readonly number[]] {
    const weak = this.#weakIf(place, sc);
    const messages = state.memory[place] as Message[];
    const own = weak < 0 ? view : replaced(view, weak, messages.length);
    const none = this.#none;
    const bare = weak < 0 ? none : replaced(none, weak, messages.length);
    const message = { value, view: acqRel ? own : bare };
    const memory = replaced(state.memory, place, weak < 0 ? [message] : [...messages, message]);
    const order = weak >= 0 && sc ? replaced(state.sc, weak, messages.length) : state.sc;
    return [{ threads: state.threads, memory, sc: order }, own];
  }

  /**
   * Does what a thread does by itself, up to its next access. Choices make several of it. `from`
   * and its registers are the caller's to give away.
   */
  #settle(index: number, from: ThreadState): Thread[] {
    const { steps } = this.programs[index] as AnyProgram;
    const targets = this.#targets[index] as number[];
    const { registers } = from;
    for (let pc = from.pc; ; pc++) {
      const step = steps[pc] as Step<Registers>;
      from.pc = pc;
      if (step.kind === "run") step.run(registers);
      else if (step.kind === "jump") {
        if (step.when(registers)) pc = (targets[pc] as number) - 1;
      } else if (step.kind === "check") {
        if (!step.holds(registers)) return [{ state: from, failure: step.say }];
      } else if (step.kind === "choose") {
        const other = { ...from, pc: targets[pc] as number, registers: { ...registers } };
        return [...this.#settle(index, { ...from, pc: pc + 1 }), ...this.#settle(index, other)];
      } else return [{ state: from, failure: undefined }];
    }
  }

  /** Forgets the writes that nobody can read any more. */
  #forget(state: MachineState): MachineState {
    const shift = this.#weak.map((place) => (state.memory[place] as Message[]).length - 1);
    for (let index = 0; index < state.threads.length; index++) {
      if (this.step(state, index).kind === "end") continue;
      const { view } = state.threads[index] as ThreadState;
      for (let weak = 0; weak < shift.length; weak++) {
        if ((view[weak] as number) < (shift[weak] as number)) shift[weak] = view[weak] as number;
      }
    }
    for (const [weak, place] of this.#weak.entries()) {
      const oldest = (state.memory[place] as Message[]).length - READABLE_MAX;
      if ((shift[weak] as number) < oldest) shift[weak] = oldest;
    }
    if (shift.every((count) => count === 0)) return state;
    const less = (view: readonly number[]) => lessened(view, shift);
    const memory = state.memory.map((messages, place) => {
      const count = shift[this.#weakOf[place] as number] ?? 0;
      const kept = count === 0 ? messages : messages.slice(count);
      return kept.map(({ value, view }) => ({ value, view: less(view) }));
    });
    const threads = state.threads.map((thread) => ({ ...thread, view: less(thread.view) }));
    return { threads, memory, sc: less(state.sc) };
  }

  #place(name: string): number {
    const place = this.#placeOf.get(name);
    if (place === undefined) throw new Error(`no place ${name}`);
    return place;
  }

  /** Which weak place it is, or -1. All accesses to a place that is none must be `sc`. */
  #weakIf(place: number, sc: boolean): number {
    const weak = this.#weakOf[place] as number;
    if (weak < 0 && !sc) throw new Error(`${this.#places[place]} is not among the weak places`);
    return weak;
  }

  #tell(place: number, value: number): string {
    return this.#show(this.#places[place] as string, value);
  }

  #last(state: MachineState, place: number): Message {
    return (state.memory[place] as Message[]).at(-1) as Message;
  }

  /** The state as a string: equal states have equal ones. All numbers are below 256. */
  encode({ threads, memory, sc }: MachineState): string {
    const bytes = this.#bytes;
    let at = 0;
    for (let index = 0; index < threads.length; index++) {
      const { pc, asleepAt, registers, view } = threads[index] as ThreadState;
      bytes[at++] = pc;
      bytes[at++] = asleepAt - WOKEN;
      for (const name in registers) bytes[at++] = registers[name] as number;
      for (const oldest of view) bytes[at++] = oldest;
    }
    for (const last of sc) bytes[at++] = last;
    for (const messages of memory) {
      bytes[at++] = messages.length;
      for (const { value, view } of messages) {
        bytes[at++] = value;
        for (const oldest of view) bytes[at++] = oldest;
      }
    }
    return bytes.toString("latin1", 0, at);
  }

  /** The state of a string that `encode` gave. */
  decode(code: string): MachineState {
    let at = 0;
    const next = () => code.charCodeAt(at++);
    const nextView = () => this.#weak.map(() => next());
    const threads = this.#registers.map((names, index) => {
      const pc = next();
      const asleepAt = next() + WOKEN;
      const registers = { ...(this.programs[index] as AnyProgram).registers };
      for (const name of names) registers[name] = next();
      return { pc, asleepAt, registers, view: nextView() };
    });
    const sc = nextView();
    const memory = this.#places.map(() => {
      const messages: Message[] = [];
      for (let left = next(); left > 0; left--) messages.push({ value: next(), view: nextView() });
      return messages;
    });
    return { threads, memory, sc };
  }
}

/** A copy of a thread, at its next step. */
function onward({ pc, asleepAt, registers, view }: ThreadState): ThreadState {
  return { pc: pc + 1, asleepAt, registers: { ...registers }, view };
}

function targetOf(labels: ReadonlyMap<string, number>, name: string): number {
  const target = labels.get(name);
  if (target === undefined) throw new Error(`no label ${name}`);
  return target;
}

/** What is not older than either. */
function joined(one: readonly number[], other: readonly number[]): readonly number[] {
  let both: number[] | undefined;
  for (let i = 0; i < one.length; i++) {
    if ((one[i] as number) >= (other[i] as number)) continue;
    both ??= one.slice();
    both[i] = other[i] as number;
  }
  return both ?? one;
}

/** A copy with one element changed: `Array.prototype.with`, but fast. */
function replaced<T>(list: readonly T[], at: number, value: T): T[] {
  const copy = list.slice();
  copy[at] = value;
  return copy;
}

/** A view, after so many writes of each place were forgotten. */
function lessened(view: readonly number[], shift: readonly number[]): readonly number[] {
  let less: number[] | undefined;
  for (let i = 0; i < view.length; i++) {
    if (shift[i] === 0 || view[i] === 0) continue;
    less ??= view.slice();
    less[i] = Math.max(0, (view[i] as number) - (shift[i] as number));
  }
  return less ?? view;
}
