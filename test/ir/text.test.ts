/** Text of the IR: what is printed parses back to the same module. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { IrError } from "../../src/ir/errors.ts";
import { Builder, type Func, makeModule, topoOrder } from "../../src/ir/graph.ts";
import { maxLineLength } from "../../src/ir/lex.ts";
import { opDef, ops } from "../../src/ir/ops/all.ts";
import { parseFunc, parseModule } from "../../src/ir/parse.ts";
import { printFunc, printModule, printNode } from "../../src/ir/print.ts";
import { verifyModule } from "../../src/ir/verify.ts";
import { same } from "../arb/compare.ts";
import { runInterpret, withInputs } from "../arb/inputs.ts";
import { arbModule } from "../arb/program.ts";

describe("random modules", () => {
  test("print, parse and print the same, with names and without", () => {
    fc.assert(
      fc.property(arbModule(), (module) => {
        verifyModule(module);
        const canonical = printModule(module, { canonical: true });
        for (const options of [{}, { canonical: true }]) {
          const text = printModule(module, options);
          const parsed = parseModule(text);
          verifyModule(parsed);
          expect(printModule(parsed, options)).toBe(text);
          expect(printModule(parsed, { canonical: true })).toBe(canonical);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("compute the same after parsing", () => {
    fc.assert(
      fc.property(withInputs(arbModule({ maxSteps: 5 })), ([module, inputs]) => {
        same(runInterpret(parseModule(printModule(module)), inputs), runInterpret(module, inputs));
      }),
      { numRuns: 100 },
    );
  });

  test("have every op", () => {
    const seen = new Set<string>();
    for (const module of fc.sample(arbModule(), { numRuns: 400, seed: 1 })) {
      for (const func of module.funcs.values()) for (const node of topoOrder(func.outs)) seen.add(node.op);
    }
    // Messages need another stage, so no program of one device has them.
    const alone = Object.keys(ops).filter((name) => opDef(name as keyof typeof ops).transfer === undefined); // a key
    expect([...seen].sort()).toEqual(alone.sort());
  });

  test("stay finite when asked to", () => {
    fc.assert(
      fc.property(withInputs(arbModule({ finite: true }), { finite: true }), ([module, inputs]) => {
        for (const { type, data } of runInterpret(module, inputs)) {
          if (type.dtype === "f32") expect([...data].filter((x) => !Number.isFinite(x))).toEqual([]);
        }
      }),
      { numRuns: 300 },
    );
  });
});

/** A block with a cache, called twice. */
function example() {
  const builder = new Builder();
  const m = maths(builder);
  const x = builder.param("x", "f32", [2, 4]);
  const kv = builder.param("kv", "f32", [8, 4]);
  const slots = builder.param("cache slots", "i32", [2]);
  const w = builder.weight("model.layers.{layer}.mlp.gate.weight", "bf16", [4]);
  const h = m.named("h", m.rmsNorm(x, w, 1e-6));
  const params = [x, kv, slots];
  const block: Func = {
    name: "block",
    params,
    outs: [m.add(h, -0), m.updateRows(kv, h, slots), m.full("f32", [], NaN)],
  };
  const first = builder.call(block, params, 0);
  const second = builder.call(block, [first[0]!, first[1]!, slots], 1);
  const main: Func = { name: "main", params, outs: [second[2]!, second[0]!, m.named("h", m.silu(second[0]!))] };
  return makeModule("deepseek v3", [block, main], "main");
}

test("the text of a module", () => {
  expect(printModule(example())).toMatchInlineSnapshot(`
    "module @"deepseek v3" entry @main {
    func @block(%x: f32[2,4], %kv: f32[8,4], %p: i32[2] {name="cache slots"}) {
      %w_mlp_gate: bf16[4] = weight {name="model.layers.{layer}.mlp.gate.weight"}
      %h: f32[2,4] = rmsNorm %x, %w_mlp_gate {eps=0.000001}
      %0: f32[2,4] = full {value=-0}
      %1: f32[2,4] = add %h, %0
      %2: f32[8,4] = updateRows %kv, %h, %p
      %3: f32[] = full {value=NaN}
      return %1, %2, %3
    }

    func @main(%x: f32[2,4], %kv: f32[8,4], %p: i32[2] {name="cache slots"}) {
      %0: f32[2,4], %1: f32[8,4] = call @block %x, %kv, %p {layer=0}
      %2: f32[] = call @block %0, %1, %p {layer=1, result=2}
      %3: f32[2,4] = call @block %0, %1, %p {layer=1}
      %h: f32[2,4] = silu %3
      return %2, %3, %h
    }
    }
    "
  `);
  expect(printFunc(example().funcs.get("block")!, { canonical: true })).toMatchInlineSnapshot(`
    "func @block(%x: f32[2,4], %kv: f32[8,4], %p: i32[2] {name="cache slots"}) {
      %0: bf16[4] = weight {name="model.layers.{layer}.mlp.gate.weight"}
      %1: f32[2,4] = rmsNorm %x, %0 {eps=0.000001}
      %2: f32[2,4] = full {value=-0}
      %3: f32[2,4] = add %1, %2
      %4: f32[8,4] = updateRows %kv, %1, %p
      %5: f32[] = full {value=NaN}
      return %3, %4, %5
    }"
  `);
});

test("one node for a message", () => {
  expect(example().funcs.get("block")!.outs.map(printNode)).toMatchInlineSnapshot(`
    [
      "%?: f32[2,4] = add %h, %?",
      "%?: f32[8,4] = updateRows %kv, %h, %cache_slots",
      "%?: f32[] = full {value=NaN}",
    ]
  `);
});

test("comments, blank lines, spacing and line ends do not matter", () => {
  const text = printModule(example());
  const loose = text.replaceAll("\n", ' // note: "%x" {\r\n\r\n// more\n').replaceAll(", ", "\t ,  ");
  expect(printModule(parseModule(loose))).toBe(text);
});

test("equal names get different suffixes, and a name that looks like one is kept apart", () => {
  const builder = new Builder();
  const m = maths(builder);
  const x = builder.param("x", "f32", [1]);
  const nodes = [m.exp(x), m.log(x), m.sin(x), m.cos(x), m.abs(x)];
  for (const [i, name] of ["x", "x", "x_1", "7 up", ""].entries()) m.named(name, nodes[i]!);
  const text = printFunc({ name: "f", params: [x], outs: nodes });
  expect(text.match(/%\w+(?=: f32\[1\] =)/g)).toEqual(["%x_1", "%x_2", "%x_1_1", "%_7_up", "%_"]);
  expect(printFunc(parseFunc(text))).toBe(text);
});

test("a node of two functions has one name in both", () => {
  const builder = new Builder();
  const m = maths(builder);
  const x = builder.param("x", "f32", [1]);
  const [first, second] = [m.named("h", m.exp(x)), m.named("h", m.log(x))];
  const f: Func = { name: "f", params: [x], outs: [first, second] };
  const text = printModule(makeModule("m", [f, { name: "g", params: [x], outs: [second] }], "g"));
  expect(text.match(/%\w+: f32\[1\] = log/g)).toEqual(["%h_1: f32[1] = log", "%h_1: f32[1] = log"]);
  expect(printModule(parseModule(text))).toBe(text);
});

test("functions without parameters, operands or results", () => {
  const text = "func @f() {\n  return\n}";
  expect(printFunc(parseFunc(text))).toBe(text);
  const call =
    'module @"" entry @main {\nfunc @f() {\n  %0: f32[] = full {value=inf}\n  return %0\n}\n\nfunc @main() {\n  %0: f32[] = call @f\n  return %0\n}\n}\n';
  expect(printModule(parseModule(call))).toBe(call);
  verifyModule(parseModule(call));
});

/** The body of a function of `%x: f32[2,3]`. */
const body = (...lines: string[]) => `func @f(%x: f32[2,3]) {\n${lines.join("\n")}\n}`;

test.each([
  [
    "unknown op",
    body("%0: f32[2] = reducSum %x", "return %0"),
    /^line 2, column 14: unknown op reducSum\n.*\n {15}\^\nDid you mean "reduceSum"\?$/s,
  ],
  [
    "declared type",
    body("%0: f32[2,3] = reduceSum %x", "return %0"),
    /^line 2, column 1: %0 is declared f32\[2,3\] but reduceSum gives f32\[2\]\n/,
  ],
  [
    "type rule",
    body("%0: f32[2] = add %x, %x, %x", "return %0"),
    /^line 2, column 14: add: expected 2 operands, got 3\n/,
  ],
  [
    "shape attribute",
    body("%0: f32[7] = reshape %x", "return %0"),
    /^line 2, column 14: reshape: expected 7 elements for \[7\], got \(f32\[2,3\]\)/,
  ],
  ["undefined value", body("return %y"), /^line 2, column 8: %y is not defined above/],
  ["value defined twice", body("%x: f32[2,3] = exp %x", "return %x"), /^line 2, column 1: %x is defined twice/],
  ["parameter defined twice", "func @f(%x: f32[], %x: f32[]) {\nreturn\n}", /^line 1, column 20: %x is defined twice/],
  [
    "function defined twice",
    "module @m entry @f {\nfunc @f() {\nreturn\n}\nfunc @f() {\nreturn\n}\n}",
    /^line 5, column 6: @f is defined twice/,
  ],
  ["dtype", "func @f(%x: float32[2]) {\nreturn\n}", /^line 1, column 13: unknown dtype float32/],
  ["dimension", "func @f(%x: f32[-2]) {\nreturn\n}", /^line 1, column 17: expected a size, got -2/],
  ["huge dimension", "func @f(%x: f32[99999999999999999999]) {\nreturn\n}", /expected a size/],
  ["huge size", "func @f(%x: f32[9007199254740991,9]) {\nreturn\n}", /^line 1, column 9: param: the result's size/],
  ["attribute missing", body("%0: f32[1] = topKValues %x", "return"), /attribute k is missing: expected int/],
  [
    "attribute unknown",
    body("%0: f32[2,3] = exp %x {k=1}", "return"),
    /unknown attribute k.*Attributes of exp: none\./s,
  ],
  ["attribute kind", body('%0: f32[2,1] = topKValues %x {k="1"}', "return"), /attribute k: expected int, got "1"/],
  [
    "attribute twice",
    body("%0: f32[2,1] = topKValues %x {k=1, k=1}", "return"),
    /^line 2, column 36: attribute k is given twice/,
  ],
  ["attribute __proto__", body("%0: f32[2,3] = exp %x {__proto__=1}", "return"), /unknown attribute __proto__/],
  ["number", body("%0: f32[] = full {value=1.2.3}", "return"), /expected a number, got 1\.2\.3/],
  ["string", body('%0: f32[] = weight {name="a}', "return"), /^line 2, column 26: the string is not closed/],
  ["escape", body('%0: f32[] = weight {name="\\x"}', "return"), /not a JSON string/],
  ["character", body("return ?"), /^line 2, column 8: unexpected character "\?"/],
  ["several results", body("%0: f32[2,3], %1: f32[2,3] = exp %x", "return"), /exp has one result, got 2/],
  ["no end", "func @f() {\nreturn", /^line 2, column 7: the text ends too early/],
  ["after the end", "func @f() {\nreturn\n}\n}", /^line 4, column 1: expected the end of the text/],
  ["parameter's attributes", "func @f(%x: f32[] {layer=1}) {\nreturn\n}", /unknown attribute layer/],
  ["nothing", "", /the text ends too early/],
  ["long line", `// ${"x".repeat(maxLineLength)}`, /longer than/],
])("error: %s", (_, text, message) => {
  const parse = text.startsWith("module") ? parseModule : parseFunc;
  expect(() => parse(text)).toThrow(message);
  expect(() => parse(text)).toThrow(IrError);
});

/** Cuts, copies, swaps and overwrites that keep a text near the grammar. */
const arbMutation = fc.tuple(
  fc.constantFrom("cut", "copy", "token", "number"),
  fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  fc.constantFrom(
    "%",
    "@",
    "{",
    "}",
    "[",
    "]",
    ",",
    "=",
    ":",
    "\n",
    '"',
    "//",
    "NaN",
    "-1",
    "99999999999",
    "return",
    "\\u0000",
  ),
);

test("mutated texts parse or give an IrError, and what parses prints again", () => {
  fc.assert(
    fc.property(arbModule(), fc.array(arbMutation, { minLength: 1, maxLength: 4 }), (module, mutations) => {
      let text = printModule(module);
      for (const [kind, from, to, token] of mutations) {
        const [start, stop] = [from, to].map((x) => Math.floor(x * text.length)).sort((a, b) => a - b) as [
          number,
          number,
        ];
        const near = Math.min(stop, start + 12);
        if (kind === "cut") text = text.slice(0, start) + text.slice(near);
        if (kind === "copy") text = text.slice(0, stop) + text.slice(start, near) + text.slice(stop);
        if (kind === "token") text = text.slice(0, start) + token + text.slice(start);
        if (kind === "number") text = text.slice(0, start) + text.slice(start).replace(/\d+/, token);
      }
      try {
        const parsed = parseModule(text);
        expect(printModule(parseModule(printModule(parsed)))).toBe(printModule(parsed));
        verifyModule(parsed);
      } catch (error) {
        if (!(error instanceof IrError)) throw error;
        expect(error.message.length).toBeLessThan(10_000);
      }
    }),
    { numRuns: 1500 },
  );
});

test("deep and wide texts parse without recursion", () => {
  const lines = Array.from(
    { length: 50_000 },
    (_, i) => `%${i}: f32[2,3] = ${i % 2 ? "exp" : "sin"} %${i === 0 ? "x" : i - 1}`,
  );
  const func = parseFunc(body(...lines, "return %49999"));
  expect(printFunc(func).split("\n")).toHaveLength(50_003);
  const wide = Array.from({ length: 20_000 }, () => "%x").join(", ");
  expect(parseFunc(body(`%0: f32[40000,3] = concat ${wide} {axis=0}`, "return %0")).outs[0]!.ins).toHaveLength(20_000);
});
