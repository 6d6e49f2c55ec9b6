import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type Program, parseSync, Visitor } from "oxc-parser";

/** The project's folder. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** A source file, parsed. */
export interface Source {
  /** From the project's folder, with slashes. */
  path: string;
  text: string;
  lines: string[];
  program: Program;
  comments: { value: string; start: number; end: number; type: string }[];
}

/** Every TypeScript file below `folders`. */
export function sources(...folders: string[]): Source[] {
  return folders
    .flatMap((folder) => readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => parse(relative(ROOT, join(entry.parentPath, entry.name))));
}

function parse(path: string): Source {
  const text = readFileSync(join(ROOT, path), "utf8");
  const { program, comments, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
  return { path, text, lines: text.split("\n"), program, comments };
}

/** 1 for the first line. */
function lineOf(source: Source, offset: number): number {
  return source.text.slice(0, offset).split("\n").length;
}

/** What a file imports, relative paths made whole; `isType` where nothing is left at run time. */
export function importsOf(source: Source): { target: string; isType: boolean }[] {
  const found: { target: string; isType: boolean }[] = [];
  for (const node of source.program.body) {
    const isImport = node.type === "ImportDeclaration";
    const isExport = node.type === "ExportNamedDeclaration" || node.type === "ExportAllDeclaration";
    if (!(isImport || isExport) || !node.source) continue;
    const kind = isImport ? node.importKind : node.exportKind;
    const specifiers = "specifiers" in node ? node.specifiers : [];
    const isTypeOnly = (specifier: object) =>
      ("importKind" in specifier && specifier.importKind === "type") ||
      ("exportKind" in specifier && specifier.exportKind === "type");
    const isType = kind === "type" || (specifiers.length > 0 && specifiers.every(isTypeOnly));
    found.push({ target: resolveImport(source.path, node.source.value), isType });
  }
  return found;
}

function resolveImport(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  const path = join(dirname(from), specifier);
  return path.endsWith(".js") ? `${path.slice(0, -3)}.ts` : `${path}.ts`; // assembly has no suffix
}

/** Every function with a body, by name where it has one. */
export function functionsOf(source: Source): { name: string; line: number; lines: number }[] {
  const found: { name: string; line: number; lines: number }[] = [];
  const add = (name: string, node: { start: number; end: number }) => {
    const line = lineOf(source, node.start);
    found.push({ name, line, lines: lineOf(source, node.end) - line + 1 });
  };
  new Visitor({
    FunctionDeclaration: (node) => add(node.id?.name ?? "default", node),
    FunctionExpression: (node) => add(node.id?.name ?? "method", node),
    ArrowFunctionExpression: (node) => add("arrow", node),
  }).visit(source.program);
  return found;
}

/** Exported declarations without a doc comment right before them. */
export function undocumentedExports(source: Source): string[] {
  const missing: string[] = [];
  for (const node of source.program.body) {
    if (node.type !== "ExportNamedDeclaration" || !node.declaration) continue;
    const before = source.comments.filter((comment) => comment.end <= node.start).at(-1);
    const isDoc = before?.type === "Block" && before.value.startsWith("*");
    const isNext = before && source.text.slice(before.end, node.start).trim() === "";
    if (!isDoc || !isNext) missing.push(`${source.path}:${lineOf(source, node.start)}`);
  }
  return missing;
}
