import { readFileSync } from "node:fs";
import {
  findNodeAtLocation,
  getNodeValue,
  type JSONPath,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import { type GenericIssue, type GenericSchema, type InferOutput, safeParse } from "valibot";
import { VhostError } from "../spec/errno.js";

/** So many faults are told at once. */
const FAULTS_MAX = 20;

/** The text of a file, and what stands where in it. */
interface ConfigText {
  path: string;
  text: string;
  tree: Node | undefined;
}

/**
 * The content of a JSON file, checked and filled in by `schema`. Throws EINVAL with a line for each
 * fault, "<file>:<line>: <field>: <what is wrong>"; and ENOENT, EACCES.
 */
export function readConfig<Schema extends GenericSchema>(
  path: string,
  schema: Schema,
): InferOutput<Schema> {
  const text = readText(path);
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, { disallowComments: true });
  const file = { path, text, tree };
  const [error] = errors;
  if (error) {
    const what = printParseErrorCode(error.error).replace(/(?<=[a-z])(?=[A-Z])/g, " ");
    throw fault([`${place(file, error.offset)}: no JSON: ${what.toLowerCase()}`]);
  }
  const result = safeParse(schema, tree && getNodeValue(tree));
  if (result.success) return result.output;
  throw fault(result.issues.map((issue) => describe(file, issue)));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code = "EIO" } = error as NodeJS.ErrnoException;
    const isKnown = code === "ENOENT" || code === "EACCES";
    throw new VhostError(isKnown ? code : "EINVAL", `${path} can't be read (${code})`, { path });
  }
}

function fault(lines: string[]): VhostError {
  const more = lines.length - FAULTS_MAX;
  const told = lines.slice(0, FAULTS_MAX);
  return new VhostError("EINVAL", [...told, ...(more > 0 ? [`and ${more} more`] : [])].join("\n"));
}

function place({ path, text }: ConfigText, offset: number): string {
  return `${path}:${text.slice(0, offset).split("\n").length}`;
}

/** The line is that of the field; of one that is missing, that of what it is missing in. */
function describe(file: ConfigText, issue: GenericIssue): string {
  const path = (issue.path ?? []).map(({ key }) => key) as JSONPath;
  let node: Node | undefined;
  for (let count = path.length; node === undefined && count >= 0; count--) {
    node = file.tree && findNodeAtLocation(file.tree, path.slice(0, count));
  }
  const named = node?.parent?.type === "property" ? node.parent : node; // where its name stands
  const field = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${key}`)).join("");
  const name = field.replace(/^\./, "") || "the whole";
  return `${place(file, named?.offset ?? 0)}: ${name}: ${reason(issue)}`;
}

function reason({ expected, received, message }: GenericIssue): string {
  if (expected === "never") return "there is no such field";
  return received === "undefined" ? "it is missing" : message;
}
