import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  exportsOf,
  functionsOf,
  importsOf,
  ROOT,
  type Source,
  sources,
  undocumentedExports,
} from "./helpers/source.js";

import { runTool } from "./helpers/tool.js";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const manifest = JSON.parse(read("package.json"));

const ALL = [
  "spec",
  "memory",
  "kernel",
  "linux",
  "ring",
  "vsock",
  "io-uring",
  "vhost",
  "driver",
  "devices",
  "vhost-user",
];

/** The rooms, lowest first, and the only ones that each may import. */
const MAY_IMPORT: Record<string, string[]> = {
  spec: [],
  assembly: ["spec"],
  memory: ["spec"],
  kernel: ["spec"],
  linux: ["spec"],
  vsock: ["spec", "memory"],
  ring: ["spec", "memory"],
  "io-uring": ["spec", "memory", "kernel", "linux", "ring"],
  vhost: ["spec", "memory", "kernel", "ring"],
  driver: ["spec", "memory", "ring", "vsock"],
  devices: ["spec", "memory", "kernel", "linux", "ring", "vsock", "io-uring", "vhost"],
  "vhost-user": ["spec", "memory", "kernel", "linux", "vhost"],
  loopback: ["spec", "memory", "kernel", "ring", "vhost", "driver"],
  index: [...ALL, "loopback"],
  cli: [...ALL, "loopback", "index"],
};

const product = sources("src", "assembly");
const tests = sources("test", "bench");

/** `src/vhost/dev.ts` is in vhost, `src/index.ts` in index, `assembly/chain.ts` in assembly. */
function room(path: string): string {
  const [top, next = ""] = path.split("/");
  return top === "assembly" ? "assembly" : next.replace(/\.ts$/, "");
}

const isOurs = (target: string) => target.startsWith("src/") || target.startsWith("assembly/");

describe("rooms", () => {
  test("import only what lies below them", () => {
    const wrong: string[] = [];
    for (const source of product) {
      const from = room(source.path);
      expect(MAY_IMPORT, source.path).toHaveProperty(from);
      for (const { target } of importsOf(source)) {
        if (!isOurs(target) || room(target) === from) continue;
        if (!MAY_IMPORT[from]?.includes(room(target))) wrong.push(`${source.path} → ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("driver and vhost meet in loopback alone", () => {
    const both = product.filter((source) => {
      const rooms = new Set(importsOf(source).map(({ target }) => room(target)));
      return rooms.has("driver") && rooms.has("vhost");
    });
    expect(both.map(({ path }) => path).sort()).toEqual(["src/index.ts", "src/loopback.ts"]);
  });

  test("are free of cycles between files at run time", () => {
    const edges = new Map(product.map((source) => [source.path, runtimeImports(source)]));
    expect([...edges.keys()].filter((path) => reaches(edges, path, path))).toEqual([]);
  });

  test("import only files that exist", () => {
    const missing = product.flatMap((source) =>
      importsOf(source).filter(({ target }) => isOurs(target) && !existsSync(join(ROOT, target))),
    );
    expect(missing).toEqual([]);
  });
});

function runtimeImports(source: Source): string[] {
  return importsOf(source)
    .filter(({ target, isType }) => isOurs(target) && !isType)
    .map(({ target }) => target);
}

function reaches(edges: Map<string, string[]>, from: string, to: string): boolean {
  const seen = new Set<string>();
  const queue = [...(edges.get(from) ?? [])];
  for (let next = queue.pop(); next; next = queue.pop()) {
    if (next === to) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    queue.push(...(edges.get(next) ?? []));
  }
  return false;
}

describe("files", () => {
  const all = [...product, ...tests];

  test("have at most 400 lines, and half of them less than 150", () => {
    const tooLong = all.filter((source) => source.lines.length > 400).map(({ path }) => path);
    expect(tooLong).toEqual([]);
    const lengths = product.map((source) => source.lines.length).sort((a, b) => a - b);
    expect(lengths[lengths.length >> 1]).toBeLessThan(150);
  });

  test("have lines of at most 100 columns", () => {
    const wide = all.flatMap(({ path, lines }) =>
      lines.flatMap((line, index) => (line.length > 100 ? [`${path}:${index + 1}`] : [])),
    );
    expect(wide).toEqual([]);
  });

  test("have functions of at most 70 lines", () => {
    const long = product.flatMap((source) =>
      functionsOf(source)
        .filter(({ lines }) => lines > 70)
        .map(({ name, line, lines }) => `${source.path}:${line} ${name}: ${lines} lines`),
    );
    expect(long).toEqual([]);
  });

  test("document every export", () => {
    expect(product.flatMap(undocumentedExports)).toEqual([]);
  });
});

describe("nothing is dead", () => {
  /** Started by name, or for people outside. */
  const roots = [
    "src/index.ts",
    "src/cli/main.ts",
    "src/devices/net-tap-thread.ts",
    "src/io-uring/io-uring.ts",
    "src/io-uring/io-worker-thread.ts",
    "src/kernel/thread-entry.ts",
    "src/linux/discard-thread.ts",
    "src/linux/readiness-thread.ts",
    "src/vhost/worker-thread.ts",
    "assembly/index.ts",
  ];
  /** Found by name at run time. */
  const named = [
    "createDevice",
    "createNotifier",
    "ioWorker",
    "sqThread",
    "tableWorker",
    "vhostWorker",
  ];
  const imports = [...product, ...tests].flatMap((source) =>
    importsOf(source).map((one) => ({ ...one, from: source.path })),
  );

  test("every file is imported by the product", () => {
    const isProduct = (path: string) => path.startsWith("src/") || path.startsWith("assembly/");
    const used = new Set(imports.filter(({ from }) => isProduct(from)).map(({ target }) => target));
    const dead = product.filter(({ path }) => !used.has(path) && !roots.includes(path));
    expect(dead.map(({ path }) => path)).toEqual([]);
  });

  test("every export is used, in another file or in its own", () => {
    const dead = product
      .filter(({ path }) => !roots.includes(path))
      .flatMap((source) => {
        const takers = imports.filter(({ target }) => target === source.path);
        const taken = new Set(takers.flatMap(({ names }) => names));
        return exportsOf(source)
          .filter((name) => !taken.has(name) && !named.includes(name))
          .filter((name) => source.text.split(new RegExp(`\\b${name}\\b`)).length === 2)
          .map((name) => `${source.path}: ${name}`);
      });
    expect(dead).toEqual([]);
  });

  test("koffi is named in one file", () => {
    const naming = product.filter(({ text }) => /["']koffi["']/.test(text));
    expect(naming.map(({ path }) => path)).toEqual(["src/linux/libc.ts"]);
  });

  test("every dependency is imported", () => {
    const targets = new Set(
      imports.filter(({ from }) => from.startsWith("src/")).map(({ target }) => target),
    );
    expect(Object.keys(manifest.dependencies).filter((name) => !targets.has(name))).toEqual([]);
  });
});

describe("tools", () => {
  test("biome finds nothing to say on style and mistakes", { timeout: 60_000 }, async () => {
    await expect(runTool("biome", ["check", "--error-on-warnings"])).resolves.toBeDefined();
  });

  test("tests and benches are sound by type", { timeout: 60_000 }, async () => {
    await expect(runTool("tsc", ["-p", "test/tsconfig.json"])).resolves.toBeDefined();
  });
});

describe("the module", () => {
  const shared = read("dist/wasm/shared.wat");
  const unshared = read("dist/wasm/unshared.wat");

  test("differs between its two targets in the memory import alone", () => {
    const other = unshared.split("\n");
    const differing = shared.split("\n").filter((line, index) => line !== other[index]);
    expect(differing).toHaveLength(1);
    expect(differing[0]).toMatch(/\(import "env" "memory" \(memory \$0 1 65536 shared\)\)/);
  });

  test("has no state of its own, no data, no other import, and never waits", () => {
    expect(shared).not.toMatch(/\(global|\(data|\(table|\(elem/);
    expect(shared.match(/\(import/g)).toHaveLength(1);
    expect(shared).not.toMatch(/atomic\.wait|memory\.grow/);
  });

  test("is small", () => {
    expect(statSync(join(ROOT, "dist/wasm/shared.wasm")).size).toBeLessThan(22_000);
  });
});

describe("the package", () => {
  test("names few dependencies, and the Node it needs", () => {
    const dependencies = [
      ...["@assemblyscript/loader", "cli-progress", "cli-table3", "commander"],
      ...["jsonc-parser", "valibot"],
    ];
    expect(Object.keys(manifest.dependencies).sort()).toEqual(dependencies);
    expect(Object.keys(manifest.optionalDependencies)).toEqual(["koffi"]);
    expect(manifest.engines.node).toBe(">=20.19");
    expect(manifest.license).toBe("MIT");
  });

  test("ships what its exports and commands name", () => {
    const named = [
      ...Object.values(manifest.exports["."] as object),
      ...Object.values(manifest.bin),
    ];
    for (const path of named) expect(existsSync(join(ROOT, String(path))), String(path)).toBe(true);
  });

  test("keeps its top level to what a reader expects", () => {
    const visible = readdirSync(ROOT).filter((name) => !name.startsWith("."));
    const isGenerated = (name: string) => /^(coverage|dist|node_modules|.*\.tgz)$/.test(name);
    expect(visible.filter((name) => !isGenerated(name)).sort()).toEqual([
      "LICENSE",
      "README.md",
      "asconfig.json",
      "assembly",
      "bench",
      "biome.json",
      "package-lock.json",
      "package.json",
      "src",
      "test",
      "tsconfig.json",
      "vitest.config.ts",
    ]);
  });
});
