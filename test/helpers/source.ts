import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAst } from "vite";

/** The project's folder. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

type Program = ReturnType<typeof parseAst>;

/** A source file, parsed. */
export interface Source {
  /** From the project's folder, with slashes. */
  path: string;
  text: string;
  lines: string[];
  program: Program;
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
  return { path, text, lines: text.split("\n"), program: parseAst(text, { lang: "ts" }) };
}

/** 1 for the first line. */
function lineOf(source: Source, offset: number): number {
  return source.text.slice(0, offset).split("\n").length;
}

/** One import or re-export. */
export interface Import {
  /** The file, from the project's folder, or a package. */
  target: string;
  /** Nothing of it is left at run time. */
  isType: boolean;
  /** What is taken; `*` for all. */
  names: string[];
}

/** What a file imports. */
export function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  for (const node of source.program.body) {
    const isImport = node.type === "ImportDeclaration";
    const isExport = node.type === "ExportNamedDeclaration" || node.type === "ExportAllDeclaration";
    if (!(isImport || isExport) || !node.source) continue;
    const specifiers = "specifiers" in node ? (node.specifiers as Specifier[]) : [];
    const kind = isImport ? node.importKind : node.exportKind;
    const isType =
      kind === "type" ||
      (specifiers.length > 0 && specifiers.every((one) => kindOf(one) === "type"));
    found.push({
      target: resolveImport(source.path, node.source.value),
      isType,
      names: specifiers.length > 0 ? specifiers.map(nameOf) : ["*"],
    });
  }
  return found;
}

interface Specifier {
  importKind?: string;
  exportKind?: string;
  imported?: { name: string };
  local?: { name: string };
  type: string;
}

const kindOf = (specifier: Specifier) => specifier.importKind ?? specifier.exportKind;

function nameOf(specifier: Specifier): string {
  if (specifier.type === "ImportNamespaceSpecifier") return "*";
  return specifier.imported?.name ?? specifier.local?.name ?? "default";
}

function resolveImport(from: string, specifier: string): string {
  if (specifier.startsWith("#dist/")) return `src/${specifier.slice(6, -3)}.ts`;
  if (!specifier.startsWith(".")) return specifier;
  const path = join(dirname(from), specifier);
  return path.endsWith(".js") ? `${path.slice(0, -3)}.ts` : `${path}.ts`; // assembly has no suffix
}

/** Names that a file declares and exports. */
export function exportsOf(source: Source): string[] {
  return source.program.body.flatMap((node) => {
    if (node.type !== "ExportNamedDeclaration" || !node.declaration) return [];
    const declaration = node.declaration as unknown as {
      id?: { name: string };
      declarations?: { id: { name?: string } }[];
    };
    const ids = declaration.declarations?.map(({ id }) => id) ?? [declaration.id];
    return ids.flatMap((id) => id?.name ?? []);
  });
}

/** Every function with a body, by name where it has one. */
export function functionsOf(source: Source): { name: string; line: number; lines: number }[] {
  const found: { name: string; line: number; lines: number }[] = [];
  const visit = (node: unknown): void => {
    if (typeof node !== "object" || node === null) return;
    const { type, start, end, id } = node as Node; // an array has none of them
    if (type !== undefined && FUNCTIONS.has(type)) {
      const line = lineOf(source, start);
      const lines = lineOf(source, end) - line + 1;
      found.push({ name: id?.name ?? type, line, lines });
    }
    for (const value of Object.values(node)) visit(value);
  };
  visit(source.program.body);
  return found;
}

interface Node {
  type?: string;
  start: number;
  end: number;
  id?: { name: string } | null;
}

const FUNCTIONS = new Set(["FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"]);

/** Exported declarations without a doc comment right before them. */
export function undocumentedExports(source: Source): string[] {
  return source.program.body.flatMap((node) => {
    if (node.type !== "ExportNamedDeclaration" || !node.declaration) return [];
    const before = source.text.slice(0, node.start).trimEnd();
    const comment = before.slice(before.lastIndexOf("/*"));
    const isDoc = comment.startsWith("/**") && comment.indexOf("*/") === comment.length - 2;
    return isDoc ? [] : [`${source.path}:${lineOf(source, node.start)}`];
  });
}
