/**
 * The rules on how source files depend on each other and what they may contain. Each is a function from files to
 * complaints, `path: what is wrong`, so that it can be shown planted violations. They read text, not a syntax tree:
 * Biome formats every file, so a few regular expressions on code without comments are enough.
 */
import { posix } from "node:path";
import { codeOf, linesOf, type Source } from "../../scripts/sources.ts";
import type { coreOps } from "../../src/ir/ops/core.ts";

export type Rule = (sources: readonly Source[]) => readonly string[];

/** The parts of src, and which parts each may import. A part may always import itself. `cli`, `browser` and `index` see all. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  ir: [],
  env: ["ir"],
  passes: ["ir"],
  models: ["ir"],
  backends: ["ir"],
  fold: ["ir", "passes", "backends"],
  // A model and what is to be done with it.
  recipe: ["ir", "passes", "plan", "compile"],
  compile: ["ir", "passes", "backends", "fold"],
  // What recipes mean for compiling.
  "compile-recipe": ["ir", "compile", "plan", "recipe"],
  // What one device of several computes.
  "compile-ranks": ["ir", "passes"],
  // What the debug variables mean for compiling.
  "compile-options": ["ir", "passes", "compile", "env", "trace-file"],
  // What the viewer shows of a compilation.
  "trace-file": ["ir", "passes", "compile"],
  // Prices deployments from configs alone.
  plan: ["ir", "models", "passes"],
  // Chooses what computes a model, by the costs that plans have.
  runtime: [
    "ir",
    "models",
    "plan",
    "env",
    "compile",
    "compile-options",
    "compile-ranks",
    "fold",
    "recipe",
    "compile-recipe",
    "trace-file",
  ],
};
const seeAll = ["cli", "index", "browser"];

/** `src/ir/op.ts` is of part `ir`, `src/compile.ts` of `compile`. */
function partOf(path: string): string {
  return /^src\/([^/.]+)/.exec(path)?.[1] ?? path;
}

/** Paths of a file's imports, type-only ones and those of re-exports and `import()` included; packages are left out. */
export function importsOf({ path, text }: Source): readonly string[] {
  const code = codeOf(text, { strings: false });
  const statements = code.matchAll(/^(?:import|export)\s[^;]*?\bfrom\s*"([^"]+)"|^import\s*"([^"]+)"/gm);
  const calls = code.matchAll(/\bimport\(\s*"([^"]+)"/g);
  return [...statements, ...calls]
    .map((match) => match[1] ?? match[2] ?? "")
    .filter((target) => target.startsWith("."))
    .map((target) => posix.join(posix.dirname(path), target));
}

export const importDirection: Rule = (sources) =>
  sources.flatMap((source) => {
    const part = partOf(source.path);
    const allowed = mayImport[part];
    if (seeAll.includes(part)) return [];
    if (allowed === undefined) return [`${source.path}: ${part} is no part that the import rule knows`];
    return importsOf(source).flatMap((target) => {
      const to = partOf(target);
      if (to !== part && !allowed.includes(to)) return [`${source.path}: ${part} may not import ${target}`];
      // Two folders of backends are two backends.
      const backend = /^src\/backends\/[^/]+\//;
      const [own] = backend.exec(source.path) ?? [];
      const [other] = backend.exec(target) ?? [];
      const strangers = part === "backends" && other !== undefined && own !== other;
      return strangers
        ? [`${source.path}: one backend may not import another, or what all share one of them: ${target}`]
        : [];
    });
  });

/** One complaint per cycle, written from its first file back to it. */
export const noCycles: Rule = (sources) => {
  const imports = new Map(sources.map((source) => [source.path, importsOf(source)]));
  const state = new Map<string, "open" | "done">();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (state.get(path) === "done") return;
    if (state.get(path) === "open") {
      found.push(`${path}: imports itself: ${[...trail.slice(trail.indexOf(path)), path].join(" -> ")}`);
      return;
    }
    state.set(path, "open");
    for (const target of imports.get(path) ?? []) visit(target, [...trail, path]);
    state.set(path, "done");
  };
  for (const path of imports.keys()) visit(path, []);
  return found;
};

/** At most `most` lines a file; `longer` are files that may have more, and how many. */
export function fileLength(most: number, longer: Readonly<Record<string, number>> = {}): Rule {
  return (sources) =>
    sources.flatMap(({ path, text }) => {
      const lines = linesOf(text).length;
      const limit = longer[path] ?? most;
      return lines > limit ? [`${path}: ${lines} lines: expected at most ${limit}`] : [];
    });
}

/** One complaint per line of code that matches, comments blanked and, unless `strings` are wanted, strings too. */
function noCode(
  pattern: RegExp,
  what: string,
  options: { readonly strings?: boolean; readonly except?: RegExp } = {},
): Rule {
  return (sources) =>
    sources
      .filter(({ path }) => !options.except?.test(path))
      .flatMap(({ path, text }) =>
        linesOf(codeOf(text, { strings: options.strings !== true })).flatMap((line, i) =>
          pattern.test(line) ? [`${path}:${i + 1}: ${what}: ${line.trim()}`] : [],
        ),
      );
}

export const noAny = noCode(
  /(?:[:<|&]|\b(?:as|is|extends|keyof)|\btype [^=]*=)\s*any\b(?!\s*[.(])|\bany\s*(?:\[\]|>)/,
  "`any`: write the type, or `unknown`",
);
export const noDefaultExport = noCode(/\bexport default\b|\bas default\b/, "a default export: give it its name");
export const environmentInOnePlace = noCode(
  /\bprocess\s*(\?\.|\.)\s*env\b|\benv\b[^=]*\} = process\b/,
  "only src/env.ts reads process.env",
  {
    // TensorFlow reads its settings from the environment alone.
    except: /^src\/(env|backends\/tfjs\/graph-worker)\.ts$/,
  },
);
export const processInCommandLine = noCode(/\bprocess\./, "only src/cli (and src/env.ts) sees the process", {
  // Node's modules are reached through the process, so that a browser bundle holds no import of them.
  except:
    /^src\/(cli\/|env\.ts$|backends\/(wasm\/machine|tfjs\/(graph-(files|thread|worker)|package-folder))\.ts$|runtime\/(weights\/node-folder|debug-files|make-folder|mesh\/(threads|processes|sockets)|probe\/(node-modules|machine|probe-cache))\.ts$)/,
});

export const fileNames: Rule = (sources) =>
  sources.flatMap(({ path }) => {
    const name = posix.basename(path);
    if (/(^|[-.])(utils?|helpers?|common|misc)[-.]/.test(name)) return [`${path}: named after nothing that is in it`];
    return /^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.bench|\.config)?\.ts$/.test(name)
      ? []
      : [`${path}: expected kebab-case and .ts`];
  });

export const firstLineSaysWhatFor: Rule = (sources) =>
  sources
    .filter(({ text }) => !/^(#![^\n]*\n)?\/\*\*\s*(\n \* )?[^\s*/]/.test(text))
    .map(({ path }) => `${path}: the first line should be a doc comment that says what the file is for`);

/** A kernel's expressions have an `op` as well, a scalar one; these folders hold code generators and see no tensor ops. */
const scalarOnly = /^src\/(ir\/kernel|passes\/kernel|backends)\//;
/** Where ops are declared, and where rewrite rules name those of their own patterns. */
const opTables = /^src\/(ir\/ops\/|ir\/op\.ts$|passes\/rules\/)/;
const mayNameOps = new RegExp(`${scalarOnly.source}|${opTables.source}`);

/** A question to the op table (kind, axes, what moves elements) survives the next op; a switch over names does not. */
export const noOpSwitch = noCode(/\bswitch \(([^)]*\.)?op\b/, "a switch over ops: ask the op table", {
  except: mayNameOps,
});

/** Ops that are the IR's structure rather than computation, so that walking a program means knowing them. */
const structural: readonly string[] = ["param", "weight", "full", "call"] satisfies (keyof typeof coreOps)[];

/** Asks for one op by name, `isOp(node, "x")` or `node.op === "x"`, only in files that own it: `owners`, by path. */
export function opNamesOnlyAtOwners(owners: Readonly<Record<string, readonly string[]>>): Rule {
  const question = /\bisOp\([^"]*?,\s*"(\w+)"|\.op\s+[!=]==\s+"(\w+)"|"(\w+)"\s+[!=]==\s+[\w.!]+\.op\b/g;
  return (sources) =>
    sources
      .filter(({ path }) => !mayNameOps.test(path))
      .flatMap(({ path, text }) =>
        [...codeOf(text, { strings: false }).matchAll(question)]
          .map((match) => match[1] ?? match[2] ?? match[3] ?? "")
          .filter((op) => !structural.includes(op) && !owners[path]?.includes(op))
          .map((op) => `${path}: names the op ${op}, which it does not own: ask the op table, or list it as an owner`),
      );
}
