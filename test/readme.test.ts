import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT } from "./helpers/source.js";
import { runProgram, runTool } from "./helpers/tool.js";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");

/** The code block that follows the comment `<!-- name: … -->`. */
function block(name: string): string {
  const match = new RegExp(`<!-- ${name}: .*-->\n\`\`\`\\w+\n([\\s\\S]*?)\n\`\`\``).exec(readme);
  if (!match?.[1]) throw new Error(`README.md has no block named ${name}`);
  return match[1];
}

// Inside the package, so that its own name resolves as it does for those who install it.
mkdirSync(join(ROOT, "dist"), { recursive: true });
const folder = mkdtempSync(join(ROOT, "dist/readme-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Type-checks and compiles a block as a program of its own, runs it, and gives what it prints. */
async function runBlock(name: string): Promise<string> {
  const file = join(folder, `${name}.ts`);
  writeFileSync(file, block(name));
  const flags = [
    "--ignoreConfig",
    "--module",
    "nodenext",
    "--target",
    "es2023",
    "--strict",
    "--skipLibCheck",
  ];
  const lib = ["--lib", "es2023,esnext.disposable,dom", "--types", "node"];
  await runTool("tsc", [...flags, ...lib, file], folder);
  return runProgram(process.execPath, [`${name}.js`], folder);
}

describe("README.md", () => {
  test("its example does what it says", async () => {
    expect(await runBlock("example")).toBe("hello\n");
  });

  test("its device of one's own answers, a hostile driver too", async () => {
    writeFileSync(join(folder, "shout.mjs"), block("device"));
    expect(await runBlock("custom")).toBe("HELLO\n");
    expect(await runBlock("hostile")).toBe("0\n");
  });

  test("its sockets talk", async () => {
    expect(await runBlock("sockets")).toBe("hello\n");
  });

  test("its console's port says hello", async () => {
    expect(await runBlock("ports")).toBe("hello\n");
  });

  test("its rings by ioctl carry a packet", async () => {
    expect(await runBlock("rings")).toBe("1\n");
  });

  test("its dice are thrown", async () => {
    writeFileSync(join(folder, "dice.mjs"), block("dice"));
    const program = [
      'import { custom, Kernel } from "vhost-wasm";',
      'const dice = custom(new URL("./dice.mjs", import.meta.url), { sides: 6 });',
      "const device = await new Kernel().spawn().open(dice);",
      "const bytes = await (await device.driver()).request(0, new Uint8Array(0), 8);",
      "console.log(Buffer.from(bytes).toString());",
      "await device.close();",
    ];
    writeFileSync(join(folder, "throw.mjs"), program.join("\n"));
    expect(await runProgram(process.execPath, ["throw.mjs"], folder)).toMatch(/^[1-6]{8}\n$/);
  });

  test("its network carries a frame", async () => {
    expect(await runBlock("network")).toBe("60 02:00:00:00:00:00\n");
  });

  test("its ring reads a file", async () => {
    writeFileSync(join(folder, "hello.txt"), "hello from a file");
    expect(await runBlock("uring")).toBe("1n hello from a file\n");
  });

  test("its ioctls answer, and refuse", async () => {
    expect(await runBlock("ioctl")).toBe("{ index: 1, num: 7 }\nENOBUFS\n");
  });

  test("its tenant keeps to its limits", async () => {
    expect(await runBlock("limits")).toBe("ENOMEM\nT\ntrue true\n");
  });

  test("every function of its walk is in the file beside it", () => {
    const rows = [...readme.matchAll(/^\|[^|]*\|(.*)\| `((?:src|assembly)\/[^`]+)` \|$/gm)];
    expect(rows.length).toBeGreaterThan(10);
    for (const [, text = "", path = ""] of rows) {
      const source = readFileSync(join(ROOT, path), "utf8");
      const names = [...text.matchAll(/`(\w+)`/g)].map(([, name]) => name);
      expect(names.length, path).toBeGreaterThan(0);
      for (const name of names) expect(source, `${name} in ${path}`).toMatch(definition(`${name}`));
    }
  });

  test("its two lines are what ci runs and what the package has", () => {
    expect(readme).toContain("\nnpm ci && npm start\n");
    expect(readme).toContain("\nnpm ci && npm test\n");
    expect(readFileSync(join(ROOT, ".ci/run"), "utf8")).toContain("\nnpm ci && npm test\n");
  });
});

/** A function, or a method at the beginning of a line of a class. */
function definition(name: string): RegExp {
  return new RegExp(`(function ${name}\\(|^  (async )?${name}\\()`, "m");
}
