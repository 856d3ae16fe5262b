/** The programs and commands in README.md do what it says. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { readmeCommands, readmePrograms } from "../scripts/readme-code.ts";
import { commands } from "../src/cli/dispatch.ts";

/** Runs a program on the sources instead of the built package; gives what it printed. */
function run(program: string): string {
  const folder = mkdtempSync(join(tmpdir(), "readme-"));
  try {
    const file = join(folder, "program.ts");
    writeFileSync(file, program.replace('from "ciuic"', `from "${pathToFileURL(resolve("src/index.ts")).href}"`));
    return execFileSync(process.execPath, [file], { encoding: "utf8" });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("programs", () => {
  const [library, compiler, ...more] = readmePrograms();

  it("are two", () => {
    expect(more).toEqual([]);
    expect(library?.trim().split("\n").length).toBeLessThanOrEqual(15);
  });

  it("the library answers, and shows its program", () => {
    expect(run(library!)).toMatch(/^27 \+ 15 = 42\.\n9 tokens, stop\n\d+ kernels, computing @step\n$/);
  });

  it("the compiler compiles and runs", () => {
    const said = run(compiler!);
    expect(said).toContain('%0: f32[2,2] = contract %x, %w {axes="n i, o i -> n o"}\n  %1: f32[2,2] = silu %0');
    expect(said).toContain("1 kernel Float32Array(4)");
    const values = /Float32Array\(4\) \[([^\]]*)\]/.exec(said)?.[1]?.split(",").map(Number) ?? [];
    // silu(x) = x / (1 + exp(-x)) of 1, 2, 4, 5; f32 has 24 bits, and there are two roundings.
    for (const [i, x] of [1, 2, 4, 5].entries()) expect(values[i]).toBeCloseTo(x / (1 + Math.exp(-x)), 6);
    expect(said).toMatch(/function \w+\(\n {2}out, \/\/ f32\[2,2\]/);
  });
});

describe("docs/api.md", () => {
  const [folder, module, experts, ...more] = readmePrograms(readFileSync("docs/api.md", "utf8"));

  it("has three programs", () => expect(more).toEqual([]));

  it("a quantised folder answers, and says what was done", () => {
    const said = run(folder!);
    expect(said).toMatch(/^27 \+ 15 = \d+\. \[ 'weights rounded to int4, layer inputs to int8' \]\n/);
    expect(said).toMatch(/weights {3}[\d.]+ MB .*, instead of 20.* MB in bf16/);
    expect(said).toMatch(/measured [\d.]+ tokens\/s/);
  });

  it("steps compile a module", () => {
    // silu(32): weights of one are one times 127 / 127.
    expect(run(module!)).toMatch(/^js 1 Float32Array\(2\) \[ 3[12][.\d]*, 3[12][.\d]* \]\n$/);
  });

  it("experts are left out", () => {
    const said = run(experts!);
    expect(said).toContain('"format": "ciuic pruning 1"');
    expect(said).toMatch(/\[ '12 routed experts kept in each of 5 layers' \] \d+\n$/);
  });
});

it("the table of commands has all of them, with options that there are", () => {
  const rows = [...readFileSync("README.md", "utf8").matchAll(/^\| `([a-z-]+)([^`]*)` \| /gm)].filter(([, name]) =>
    commands.some((each) => each.name === name),
  );
  expect([...new Set(rows.map(([, name]) => name))].sort()).toEqual(commands.map(({ name }) => name).sort());
  for (const [, name, usage = ""] of rows) {
    const { options } = commands.find((each) => each.name === name)!;
    for (const [, option] of usage.matchAll(/--([a-z-]+)/g))
      expect([name, Object.keys(options)]).toEqual([name, expect.arrayContaining([option])]);
  }
});

it("what --help says of options is said alike", () => {
  for (const { name, options, usage, examples, details } of commands) {
    for (const [option, { doc, kind, value }] of Object.entries(options)) {
      expect(doc, `${name} --${option}`).toMatch(/^[A-Z0-9].*\.$/s);
      expect(doc, `${name} --${option}`).not.toMatch(/Default [^:]/);
      expect(kind === "flag", `${name} --${option}`).toBe(value === undefined);
    }
    // Options that texts name exist, of this command or, in examples, of the one that is called.
    for (const text of [...usage, ...details]) {
      for (const [, option] of text.matchAll(/(?<![\w-])--([a-z-]+)/g)) {
        const known = commands.some(
          (each) => Object.hasOwn(each.options, option!) && (each.name === name || text.includes(`ciuic ${each.name}`)),
        );
        expect(known, `${name}: --${option}`).toBe(true);
      }
    }
    for (const example of examples) expect(example).toContain(`ciuic ${name}`);
  }
});

it("commands are scripts of package.json", () => {
  // The project's own file.
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  expect(readmeCommands()).toEqual(["npm ci && npm start", "npm ci && npm test"]);
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(["start", "test", "ciuic"]));
});

it.for(["README.md", "docs/architecture.md", "docs/adding.md", "docs/api.md", "docs/browser.md", "docs/machine.md"])(
  "links of %s lead somewhere",
  (page) => {
    const links = [...readFileSync(page, "utf8").matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)].map((match) => match[1]!);
    expect(links.filter((link) => !existsSync(resolve(page, "..", link)))).toEqual([]);
  },
);
