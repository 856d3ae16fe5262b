/** The architecture's rules on the project as it is, and each rule seen to fail on a planted violation. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: planted sources hold templates
import { describe, expect, it } from "vitest";
import { codeOf, readSources, type Source } from "../scripts/sources.ts";
import * as rules from "./architecture/rules.ts";

const src = readSources(".", ["src"]);
const tests = readSources(".", ["test"]);

/** Files that are about some ops, and which. Whoever else needs to know asks the op's declaration. */
const owners = {
  // Blocks of weight expressions end where concatenated weights do.
  "src/passes/blocks.ts": ["concat"],
  // What a broadcast makes is larger than what it is made of, whatever its sizes are.
  "src/passes/constant.ts": ["broadcast", "reshape"],
  // Casts are what this pass inserts; a contraction takes f32 where the target says so.
  "src/passes/legalize.ts": ["cast", "contract"],
  // Casts that widen are to the bit what ours are.
  "src/backends/tfjs/graph-files.ts": ["cast"],
  // A cast that only widens what is loaded is free; a broadcast along an outer axis repeats what it is made of.
  "src/passes/fuse.ts": ["cast"],
  "src/passes/reductions.ts": ["broadcast"],
  // What a broadcast repeats is read once; a transposed operand is read along its rows.
  "src/passes/lower/columns.ts": ["broadcast", "transpose"],
  // Rounding to a storage format happens in the store that ends a kernel.
  "src/passes/epilogue.ts": ["cast"],
  // Constants of the same value at each index, or of the index itself.
  "src/passes/simplify.ts": ["iota"],
  // Sibling contractions become one, of concatenated weights.
  "src/passes/orient-weights.ts": ["contract", "cast", "gather"],
  "src/passes/merge-contracts.ts": ["contract", "gather", "cast"],
  "src/passes/quantize/packed.ts": ["dequantizeGroups", "gather"],
  "src/passes/quantize/observe.ts": ["contract"],
  "src/passes/quantize/quantize.ts": ["contract", "gather", "cast", "dequantizeGroups"],
  // Latent attention: the contraction with kv_b moves to the query's side.
  "src/passes/absorb.ts": ["attention", "concat", "contract", "broadcast"],
  // The cast of a weight moves out, past whatever only moves elements.
  "src/passes/hold-narrow.ts": ["contract", "gather", "cast", "transpose", "reshape", "concat"],
  // What quantize made of chosen weights.
  "src/passes/unpack-tables.ts": ["dequantizeGroups", "gather"],
  // One op in parts, and what puts them together.
  "src/passes/split-attention.ts": ["attention"],
  // Lowerings own the ops they lower.
  // Packs what the pass quantize makes of contractions.
  "src/passes/pack-dots.ts": ["contract", "dequantizeGroups", "gather"],
  // What such products' inputs are quantised by becomes part of their kernels.
  "src/passes/staged-dots.ts": ["groupScales", "quantizeGroups"],
  // A rank's part of a weight becomes a slice.
  "src/passes/shard/localize.ts": ["shard"],
  // A loader reads what slices of weights read.
  "src/passes/shard/regions.ts": ["slice"],
  // Weights that are chosen by one index.
  "src/passes/lower/dot-pairs.ts": ["gather"],
  "src/passes/lower/map.ts": ["concat"],
  "src/passes/lower/values.ts": ["reduceMax"],
};

const checks: Readonly<Record<string, { rule: rules.Rule; on: readonly Source[] }>> = {
  "imports go one way": { rule: rules.importDirection, on: src },
  "no import cycles in src": { rule: rules.noCycles, on: src },
  "no import cycles in test": { rule: rules.noCycles, on: tests },
  "files of src have at most 300 lines": { rule: rules.fileLength(300), on: src },
  "files of test have at most 400 lines": { rule: rules.fileLength(400), on: tests },
  "no any": { rule: rules.noAny, on: [...src, ...tests] },
  "no default exports": { rule: rules.noDefaultExport, on: [...src, ...tests] },
  "one file reads the environment": { rule: rules.environmentInOnePlace, on: src },
  "the process is the command line's": { rule: rules.processInCommandLine, on: src },
  "file names say what is inside": { rule: rules.fileNames, on: [...src, ...tests] },
  "files begin by saying what they are for": { rule: rules.firstLineSaysWhatFor, on: src },
  "no switch over ops": { rule: rules.noOpSwitch, on: src },
  "ops are named by their owners only": { rule: rules.opNamesOnlyAtOwners(owners), on: src },
};

describe("the project", () => {
  it("is found", () => {
    expect(src.length).toBeGreaterThan(80);
    expect(tests.length).toBeGreaterThan(30);
  });

  it.for(Object.entries(checks))("%s", ([, { rule, on }]) => {
    expect(rule(on)).toEqual([]);
  });
});

/** A file per entry. */
const files = (texts: Readonly<Record<string, string>>): readonly Source[] =>
  Object.entries(texts).map(([path, text]) => ({ path, text }));

describe("a planted violation is found", () => {
  it.for([
    ["src/ir/x.ts", "../passes/y.ts"],
    ["src/passes/x.ts", "../compile.ts"],
    ["src/passes/x.ts", "../env.ts"],
    ["src/models/deepseek/x.ts", "../../passes/y.ts"],
    ["src/backends/js/x.ts", "../../passes/y.ts"],
    ["src/backends/js/x.ts", "../wasm/y.ts"],
    ["src/backends/backend.ts", "./js/device.ts"],
    ["src/compile.ts", "./runtime/engine.ts"],
    ["src/runtime/x.ts", "../passes/y.ts"],
    ["src/runtime/x.ts", "../cli/main.ts"],
    ["src/fold.ts", "./compile.ts"],
    ["src/stray.ts", "./ir/types.ts"],
  ])("%s importing %s", ([path, target]) => {
    for (const statement of [
      `import { y } from "${target}";`,
      `import type { Y } from "${target}";`,
      `import {\n  y,\n  z,\n} from "${target}";`,
      `export * from "${target}";`,
      `import "${target}";`,
      `const load = () => import("${target}");`,
      `export type Y = import("${target}").Y;`,
    ]) {
      expect(rules.importDirection(files({ [path!]: `/** X. */\n${statement}\n` })), statement).toHaveLength(1);
    }
  });

  it("and what is allowed is not", () => {
    const allowed = {
      "src/ir/x.ts": `import { a } from "./kernel/k.ts";\nimport { b } from "node:fs";`,
      "src/passes/lower/x.ts": `import { a } from "../../ir/x.ts";\nimport { b } from "../fuse.ts";`,
      "src/backends/js/x.ts": `import { a } from "../backend.ts";\n// import { b } from "../wasm/y.ts";`,
      "src/runtime/x.ts": `import { a } from "../compile.ts";\nimport { b } from "../models/deepseek/config.ts";`,
      "src/cli/x.ts": `import { a } from "../passes/pass.ts";\nimport { b } from "../index.ts";`,
      "src/index.ts": `export { a } from "./passes/pass.ts";`,
    };
    expect(rules.importDirection(files(allowed))).toEqual([]);
  });

  it("import cycles, of types too", () => {
    const cycle = {
      "src/ir/a.ts": `import type { B } from "./b.ts";`,
      "src/ir/b.ts": `import { c } from "./c.ts";`,
      "src/ir/c.ts": `export { a } from "./a.ts";`,
      "src/ir/d.ts": `import { a } from "./a.ts";`,
    };
    expect(rules.noCycles(files(cycle))).toEqual([
      "src/ir/a.ts: imports itself: src/ir/a.ts -> src/ir/b.ts -> src/ir/c.ts -> src/ir/a.ts",
    ]);
    expect(rules.noCycles(files({ ...cycle, "src/ir/c.ts": "export const a = 1;" }))).toEqual([]);
    expect(rules.noCycles(files({ "src/a.ts": `import { a } from "./a.ts";` }))).toHaveLength(1);
  });

  it("long files", () => {
    const long = files({ "src/ir/a.ts": "x\n".repeat(301), "src/ir/b.ts": "x\n".repeat(300) });
    expect(rules.fileLength(300)(long)).toEqual(["src/ir/a.ts: 301 lines: expected at most 300"]);
    expect(rules.fileLength(300, { "src/ir/a.ts": 301 })(long)).toEqual([]);
  });

  const lines: Readonly<
    Record<string, { rule: rules.Rule; bad: readonly string[]; good: readonly string[]; path?: string }>
  > = {
    any: {
      rule: rules.noAny,
      bad: [
        "let x: any;",
        "f<any>(x);",
        "x as any",
        "type A = Map<string, any>;",
        "type B = any[];",
        "const x = `${y as any}`;",
      ],
      good: [
        "// any",
        "/* any: any */",
        '"x: any"',
        "`as any`",
        "AbortSignal.any([a])",
        "const many = 1;",
        "{ any: 1 }",
      ],
    },
    "default exports": {
      rule: rules.noDefaultExport,
      bad: ["export default 1;", "export default function x() {}", "export { x as default };"],
      good: ["// export default", "export const defaults = 1;"],
    },
    "the environment": {
      rule: rules.environmentInOnePlace,
      bad: ["process.env.X", "process.env", "process?.env", "const { env } = process;"],
      good: ["process.stdout", "// process.env", "readEnv().DEBUG"],
    },
    "the process": {
      rule: rules.processInCommandLine,
      bad: ["process.exit(1)", "process.stdout.write(x)"],
      good: ["// process.exit", "preprocess.x"],
    },
    "switches over ops": {
      rule: rules.noOpSwitch,
      bad: ["switch (node.op) {", "switch (op) {", "switch (root.ins[0]!.op) {"],
      good: ["switch (step.step) {", "switch (opKind(node)) {", "// switch (node.op) {"],
    },
    "op names": {
      rule: rules.opNamesOnlyAtOwners({ "src/passes/a.ts": ["cast"] }),
      bad: [
        'isOp(node, "concat")',
        'isOp(node.ins[0]!, "concat")',
        'node.op === "concat"',
        'node.op !== "concat"',
        '"concat" === node.op',
        'isOp(\n  node,\n  "concat",\n)',
      ],
      good: [
        'isOp(node, "cast")',
        'node.op === "param"',
        'isOp(node, "call")',
        '// isOp(node, "concat")',
        "isOp(node, name)",
      ],
    },
  };
  it.for(Object.entries(lines))("%s", ([, { rule, bad, good }]) => {
    for (const line of bad) expect(rule(files({ "src/passes/a.ts": `${line}\n` })), line).toHaveLength(1);
    for (const line of good) expect(rule(files({ "src/passes/a.ts": `${line}\n` })), line).toEqual([]);
  });

  it("file names", () => {
    const bad = [
      "src/ir/utils.ts",
      "src/ir/string-helpers.ts",
      "src/ir/common.ts",
      "src/ir/graphTools.ts",
      "src/ir/a.js",
    ];
    for (const path of bad) expect(rules.fileNames(files({ [path]: "" })), path).toHaveLength(1);
    for (const path of ["src/ir/graph.ts", "src/ir/plan-verify.ts", "test/ir/text.test.ts", "src/ir/uncommon.ts"]) {
      expect(rules.fileNames(files({ [path]: "" })), path).toEqual([]);
    }
  });

  it("files that do not say what they are for", () => {
    for (const text of [
      'import { a } from "./a.ts";\n',
      "// A file.\n",
      "/* A file. */\n",
      "/** */\n",
      "\n/** A file. */\n",
    ]) {
      expect(rules.firstLineSaysWhatFor(files({ "src/a.ts": text })), text).toHaveLength(1);
    }
    for (const text of ["/** A file. */\n", "/**\n * A file.\n */\n", "#!/usr/bin/env node\n/** A file. */\n"]) {
      expect(rules.firstLineSaysWhatFor(files({ "src/a.ts": text })), text).toEqual([]);
    }
  });
});

describe("code without its comments and strings", () => {
  it.for([
    ['a // "b"\nc', "a       \nc"],
    ['"a // b" // c', '"      "     '],
    ["'\"' /* x */ y", "' '         y"],
    ["`a ${b + `c ${d}` + { e: 1 }} f` // g", "`  ${b + `  ${d}` + { e: 1 }}  `     "],
    ['x = /[/"]/g; // y', "x =        ;     "],
    ["a / b / c // d", "a / b / c     "],
    ["`\\`${1}` // x", "`  ${1}`     "],
  ])("%s", ([text, code]) => {
    expect(codeOf(text!, { strings: true })).toBe(code);
  });

  it("keeps every line in its place", () => {
    for (const { path, text } of [...src, ...tests]) {
      const code = codeOf(text, { strings: true });
      expect(code.length, path).toBe(text.length);
      expect(code.split("\n").length, path).toBe(text.split("\n").length);
    }
  });
});
