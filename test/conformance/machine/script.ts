// What a script is given, and what it gives back.

import { attempt } from "./errors.js";
import { Machine } from "./machine.js";
import type { Proc } from "./proc.js";

/** A value that a script saw, comparable with a recorded one. */
export type Value = string | number | boolean | null | undefined | Inexpressible;
/** Values by name. */
export type Seen = Record<string, Value>;

/** A value that cannot be had here. */
export class Inexpressible {
  constructor(readonly reason: string) {}
}

/** See Scene. */
export const inexpressible = (reason: string): Inexpressible => new Inexpressible(reason);

/** A machine that has just booted. */
export interface Scene {
  readonly machine: Machine;
  /** The program that runs the scenario: root's, forked from `parent` and never executed. */
  readonly main: Proc;
  /** Its parent, alone in its process, root's too: who waits for it and holds what it opened. */
  readonly parent: Proc;
  /** "OK" or the errno that the call fails with. */
  readonly attempt: typeof attempt;
  /** Says why a value, or the whole scenario, cannot be had. */
  readonly inexpressible: typeof inexpressible;
}

/** The steps of one scenario. */
export type Script = (scene: Scene) => Seen | Inexpressible | Promise<Seen>;

/** Bytes of a process's memory in scenarios of the data path, where buffers are large. */
const DATAPATH_BYTES = 4 << 20;

/** A fresh scene, for a scenario of an area. */
export function makeScene(area?: string): Scene {
  const machine = new Machine("v6.12", area === "datapath" ? DATAPATH_BYTES : undefined);
  const parent = machine.boot();
  return { machine, parent, main: parent.fork(), attempt, inexpressible };
}
