/**
 * The vocabulary of scenario scripts: a machine, programs on it, and the calls that a C program
 * would make. `../VOCABULARY.md` has it on one page.
 *
 * A script exports `run(scene)`, which takes the steps of a scenario and returns what it saw, by
 * the names that the record has; the record itself it never sees. What cannot be said is
 * `inexpressible("why")`, as one value or as all.
 */
export { attempt } from "./errors.js";
export { Machine, type PendingCall } from "./machine.js";
export { Proc } from "./proc.js";
export { inexpressible, type Scene, type Script, type Seen, type Value } from "./script.js";
