/** The programs and commands in README.md do what it says. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { readmeCommands, readmePrograms } from "../scripts/readme-code.ts";

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

it("commands are scripts of package.json", () => {
  // The project's own file.
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  expect(readmeCommands()).toEqual(["npm ci && npm start", "npm ci && npm test"]);
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(["start", "test", "ciuic"]));
});

it.for(["README.md", "docs/architecture.md", "docs/adding.md", "docs/browser.md", "docs/machine.md"])(
  "links of %s lead somewhere",
  (page) => {
    const links = [...readFileSync(page, "utf8").matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)].map((match) => match[1]!);
    expect(links.filter((link) => !existsSync(resolve(page, "..", link)))).toEqual([]);
  },
);
