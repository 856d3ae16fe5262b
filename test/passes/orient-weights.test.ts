/** Weights are exchanged where products read them faster, and only there; what is computed stays the same to the bit. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Module } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { legalize } from "../../src/passes/legalize.ts";
import { orientWeights } from "../../src/passes/orient-weights.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { randomNumbers, randomTensor, randomWeights } from "../../src/passes/validate.ts";
import { same } from "../arb/compare.ts";
import { arbCase } from "../backends/random-programs.ts";

function orient(module: Module): Module {
  return runPasses(module, [legalize(jsTarget), orientWeights], jsTarget, { verify: 2 });
}

function oriented(text: string): Module {
  const module = parseModule(text);
  const after = orient(module);
  const random = randomNumbers(1);
  const inputs = module.funcs.get("main")!.params.map(({ type }) => randomTensor(type, random));
  const weights = randomWeights(module, 1);
  same(interpret(after, inputs, { weights }), interpret(module, inputs, { weights }));
  return after;
}

test("a projection", () => {
  const after = oriented(`
module @m entry @main {
func @main(%x: f32[2,3]) {
  %w: bf16[4,3] = weight {name="w"}
  %y: f32[2,4] = contract %x, %w {axes="n i, o i -> n o"}
  return %y
}
}`);
  expect(printModule(after)).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @main(%x: f32[2,3]) {
      %w: bf16[4,3] = weight {name="w"}
      %0: f32[4,3] = cast %w
      %1: f32[3,4] = transpose %0 {perm=[1, 0]}
      %y: f32[2,4] = contract %x, %1 {axes="n i, i o -> n o"}
      return %y
    }
    }
    "
  `);
});

test("the way down from chosen experts, whose sums then lie together; the way up stays", () => {
  const after = printModule(
    oriented(`
module @m entry @main {
func @main(%x: f32[1,3], %act: f32[1,2,5], %experts: i32[1,2]) {
  %up: bf16[4,5,3] = weight {name="experts.{0}.up"}
  %down: bf16[4,3,5] = weight {name="experts.{0}.down"}
  %rows_up: bf16[1,2,5,3] = gather %up, %experts
  %rows_down: bf16[1,2,3,5] = gather %down, %experts
  %wide: f32[1,2,5] = contract %x, %rows_up {axes="n i, n k f i -> n k f"}
  %routed: f32[1,3] = contract %act, %rows_down {axes="n k f, n k i f -> n i"}
  return %wide, %routed
}
}`),
  );
  expect(after).toContain('axes="n i, n k f i -> n k f"');
  expect(after).toContain('axes="n k f, n k f i -> n i"');
});

test.each([
  ["read by something else too", '%y: f32[2,4] = contract %x, %w {axes="n i, o i -> n o"}\n  return %y, %w'],
  ["as it should be", '%y: f32[2,3] = contract %z, %w {axes="n o, o i -> n i"}\n  return %y'],
])("a weight that is %s stays", (_, body) => {
  const after = oriented(`
module @m entry @main {
func @main(%x: f32[2,3], %z: f32[2,4]) {
  %w: f32[4,3] = weight {name="w"}
  ${body}
}
}`);
  expect(printModule(after)).not.toContain("transpose");
});

test("random programs compute the same", () => {
  fc.assert(
    fc.property(arbCase({ finite: true }), ({ module, given }) => {
      const weights = given.weights;
      same(interpret(orient(module), given.inputs, { weights }), interpret(module, given.inputs, { weights }));
    }),
    { numRuns: 100 },
  );
});
