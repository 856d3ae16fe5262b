/**
 * `npm run size`: how large the project is, by the numbers that tend to grow unnoticed: lines per folder, long functions,
 * ops, scalar ops, debug variables. Fails over the limits in package.json (`size`).
 */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ops } from "../src/ir/ops/all.ts";
import { scalarOps } from "../src/ir/scalar.ts";
import { codeOf, linesOf, readSources, type Source } from "./sources.ts";

export interface LongFunction {
  readonly where: string;
  readonly name: string;
  readonly lines: number;
}

/** A function declaration, a method, or a constant or property that is a function; its head may go on for more lines. */
const opening =
  /^(?<indent> *)(?:export )?(?:async )?(?:function\*? (?<declared>\w+)|(?:const |static )?(?:async |get |set )?\*?(?<named>#?\w+)(?: = |: )?(?:async )?)(?:<.*>)?\(/;
const keywords = new Set(["if", "for", "while", "switch", "catch", "return", "super"]);

/**
 * Functions longer than `most` lines, first and last line included. Relies on Biome's formatting: a head that does not
 * fit on a line is closed by `)` at the indentation of the function, and so is the body by `}`.
 */
export function longFunctions({ path, text }: Source, most: number): readonly LongFunction[] {
  const lines = linesOf(codeOf(text, { strings: true }));
  const find = (from: number, start: string) => lines.findIndex((line, i) => i > from && line.startsWith(start));
  return lines.flatMap((line, start) => {
    const { indent = "", declared, named } = opening.exec(line)?.groups ?? {};
    const name = declared ?? named;
    if (name === undefined || keywords.has(name)) return [];
    const head = line.endsWith("(") ? find(start, `${indent})`) : start;
    if (!lines[head]?.endsWith("{")) return [];
    const length = find(head, `${indent}}`) - start + 1;
    return length > most ? [{ where: `${path}:${start + 1}`, name, lines: length }] : [];
  });
}

/** Lines of the files directly in each folder. */
export function linesByFolder(sources: readonly Source[]): ReadonlyMap<string, number> {
  const lines = new Map<string, number>();
  for (const { path, text } of sources) {
    const folder = dirname(path);
    lines.set(folder, (lines.get(folder) ?? 0) + linesOf(text).length);
  }
  return lines;
}

/** The debug variables, by their declarations in src/env.ts. */
export function debugVariables(sources: readonly Source[]): number {
  const env = sources.find(({ path }) => path === "src/env.ts");
  return env === undefined ? 0 : [...codeOf(env.text, { strings: true }).matchAll(/^ {2}[A-Z_]+: \{/gm)].length;
}

interface Measure {
  readonly name: string;
  readonly value: number;
  readonly limit: number | undefined;
}

function measures(src: readonly Source[], limits: Readonly<Record<string, number>>): readonly Measure[] {
  const values = {
    lines: src.reduce((sum, { text }) => sum + linesOf(text).length, 0),
    longFunctions: src.flatMap((source) => longFunctions(source, 40)).length,
    ops: Object.keys(ops).length,
    scalarOps: Object.keys(scalarOps).length,
    debugVariables: debugVariables(src),
  };
  return Object.entries(values).map(([name, value]) => ({ name, value, limit: limits[name] }));
}

function main(): void {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const src = readSources(root, ["src"]);
  for (const [folder, lines] of linesByFolder(src)) console.log(`${String(lines).padStart(6)}  ${folder}`);
  const long = src.flatMap((source) => longFunctions(source, 40));
  console.log(long.length === 0 ? "\nno function over 40 lines" : "\nfunctions over 40 lines");
  for (const { where, name, lines } of long) console.log(`${String(lines).padStart(6)}  ${name}  ${where}`);
  console.log("");
  // The project's own file.
  const { size } = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as { size: Record<string, number> };
  for (const { name, value, limit } of measures(src, size)) {
    const over = limit !== undefined && value > limit;
    console.log(
      `${String(value).padStart(6)}  ${name}${limit === undefined ? "" : ` (limit ${limit})`}${over ? "  OVER" : ""}`,
    );
    if (over) process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main();
