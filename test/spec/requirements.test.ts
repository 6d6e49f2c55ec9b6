// The list of requirements is what the tests beside it do: no test without an entry, no entry that
// claims a test and has none, and the README's table is its count. What is pending, not applicable
// or violated is printed.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { hasFeature } from "#dist/spec/features.js";
import { RING_FEATURES } from "#dist/vhost/policy.js";
import { ROOT, type Source, sources } from "../helpers/source.js";
import { REQUIREMENTS, type State, titleOf } from "./requirements.js";

/** A test as it stands in a file. */
interface Found {
  title: string;
  /** It says itself that it fails. */
  isFailing: boolean;
  path: string;
}

interface CallNode {
  type?: string;
  callee?: CallNode & { name?: string };
  object?: CallNode;
  property?: { name?: string };
  name?: string;
  arguments?: { type: string; value?: unknown }[];
}

/** `test`, `test.each(…)` and `test.fails` with a title; other calls give nothing. */
function testOf(node: CallNode, path: string): Found[] {
  if (node.type !== "CallExpression" || !node.callee) return [];
  const names: (string | undefined)[] = [];
  for (let callee: CallNode | undefined = node.callee; callee; ) {
    names.push(callee.property?.name ?? callee.name);
    callee = callee.type === "CallExpression" ? callee.callee : callee.object;
  }
  if (names.at(-1) !== "test") return [];
  const [title] = node.arguments ?? [];
  if (title?.type !== "Literal" || typeof title.value !== "string") return [];
  return [{ title: title.value, isFailing: names.includes("fails"), path }];
}

function testsOf({ program, path }: Source): Found[] {
  const found: Found[] = [];
  const visit = (node: unknown): void => {
    if (typeof node !== "object" || node === null) return;
    found.push(...testOf(node as CallNode, path));
    for (const value of Object.values(node)) visit(value);
  };
  visit(program.body);
  return found;
}

const files = sources("test/spec").filter(
  ({ path }) => path.endsWith(".test.ts") && path !== "test/spec/requirements.test.ts",
);
const found = files.flatMap(testsOf);
const inState = (...states: State[]) => REQUIREMENTS.filter(({ state }) => states.includes(state));

/** Which requirements a file is for. */
const SECTION_OF: Record<string, string> = {
  virtqueues: "2.6",
  split: "2.7",
  packed: "2.8",
};

describe("the list of requirements", () => {
  test("has each id and each title once, and a reason for what is not tested", () => {
    expect(new Set(REQUIREMENTS.map(({ id }) => id)).size).toBe(REQUIREMENTS.length);
    expect(new Set(REQUIREMENTS.map(titleOf)).size).toBe(REQUIREMENTS.length);
    for (const one of REQUIREMENTS) {
      expect((one.why ?? "") !== "", one.id).toBe(one.state !== "tested");
    }
  });

  test("names every test, and every test that it names is there", () => {
    const titles = [...new Set(found.map(({ title }) => title))].sort();
    expect(titles).toEqual(inState("tested", "violated").map(titleOf).sort());
  });

  test("says which requirements are violated", () => {
    const failing = [...new Set(found.filter((one) => one.isFailing).map(({ title }) => title))];
    expect(failing.sort()).toEqual(inState("violated").map(titleOf).sort());
  });

  test("excuses nothing by a feature that is offered", () => {
    for (const { id, state, feature } of REQUIREMENTS) {
      if (state === "tested" || feature === undefined) continue;
      expect(hasFeature(RING_FEATURES.strict, feature), id).toBe(false);
    }
  });

  test("is tested in files by section", () => {
    for (const { title, path } of found) {
      const [name = ""] = path.replace("test/spec/", "").split(/[-.]/);
      expect(title.startsWith(`${SECTION_OF[name]}.`), `${path}: ${title}`).toBe(true);
    }
  });

  test("is counted in the README", () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    const rows = [...readme.matchAll(/^\| (2\.[678]) [^|]*\| (driver|device) \|(.*)\|$/gm)];
    const told = rows.map(([, section, side, counts = ""]) => {
      return [section, side, ...counts.split("|").map(Number)];
    });
    const states = ["tested", "not applicable", "pending", "violated"] as const;
    const counted = ["2.6", "2.7", "2.8"].flatMap((section) =>
      (["driver", "device"] as const).map((side) => {
        const count = (state: State) =>
          inState(state).filter((one) => one.side === side && one.section.startsWith(section));
        return [section, side, ...states.map((state) => count(state).length)];
      }),
    );
    expect(told).toEqual(counted);
  });
});

const open = inState("pending", "violated", "not applicable");
const lines = open.map((one) => `  ${one.state}: ${titleOf(one)} (${one.why})`);
const of = `${open.length} of ${REQUIREMENTS.length} requirements`;
console.info(`${of} without a test that passes:\n${lines.join("\n")}`);
for (const one of inState("pending")) test.todo(`${titleOf(one)} (${one.why})`);
