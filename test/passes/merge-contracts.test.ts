/** Sibling contractions are merged, and nothing else is. */
import { expect, test } from "vitest";
import type { Module } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget, type Target, webgpuTarget } from "../../src/ir/target.ts";
import { legalize } from "../../src/passes/legalize.ts";
import { mergeContracts } from "../../src/passes/merge-contracts.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { randomNumbers, randomTensor, randomWeights } from "../../src/passes/validate.ts";
import { same } from "../arb/compare.ts";

function merged(text: string, target: Target = jsTarget): Module {
  const module = parseModule(text);
  const after = runPasses(module, [legalize(jsTarget), mergeContracts], target, { verify: 2 });
  const random = randomNumbers(1);
  const inputs = module.funcs.get("main")!.params.map(({ type }) => randomTensor(type, random));
  const weights = randomWeights(module, 1);
  same(interpret(after, inputs, { weights }), interpret(module, inputs, { weights }));
  return after;
}

test("q, k and v of different numbers of heads", () => {
  const after = merged(`
module @m entry @main {
func @main(%x: f32[2,3]) {
  %wq: bf16[4,2,3] = weight {name="q"}
  %wk: bf16[1,2,3] = weight {name="k"}
  %wv: bf16[1,2,3] = weight {name="v"}
  %q: f32[2,4,2] = contract %x, %wq {axes="n i, h d i -> n h d"}
  %k: f32[2,1,2] = contract %x, %wk {axes="n i, g d i -> n g d"}
  %v: f32[2,1,2] = contract %x, %wv {axes="n j, a b j -> n a b"}
  return %q, %k, %v
}
}`);
  expect(printModule(after)).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @main(%x: f32[2,3]) {
      %wq: bf16[4,2,3] = weight {name="q"}
      %wk: bf16[1,2,3] = weight {name="k"}
      %wv: bf16[1,2,3] = weight {name="v"}
      %0: bf16[6,2,3] = concat %wq, %wk, %wv {axis=0}
      %1: f32[6,2,3] = cast %0
      %q_k_v: f32[2,6,2] = contract %x, %1 {axes="n i, h d i -> n h d"}
      %q: f32[2,4,2] = slice %q_k_v {axis=1, start=0, stop=4}
      %k: f32[2,1,2] = slice %q_k_v {axis=1, start=4, stop=5}
      %v: f32[2,1,2] = slice %q_k_v {axis=1, start=5, stop=6}
      return %q, %k, %v
    }
    }
    "
  `);
});

test("gate and up of the experts that each token chose", () => {
  const after = merged(`
module @m entry @main {
func @main(%x: f32[2,3], %experts: i32[2,2]) {
  %wg: f32[4,5,3] = weight {name="experts.{0}.gate"}
  %wu: f32[4,5,3] = weight {name="experts.{0}.up"}
  %eg: f32[2,2,5,3] = gather %wg, %experts
  %eu: f32[2,2,5,3] = gather %wu, %experts
  %gate: f32[2,2,5] = contract %x, %eg {axes="n i, n k f i -> n k f"}
  %up: f32[2,2,5] = contract %x, %eu {axes="n i, n k f i -> n k f"}
  %out: f32[2,2,5] = mul %gate, %up
  return %out
}
}`);
  expect(printModule(after)).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @main(%x: f32[2,3], %experts: i32[2,2]) {
      %wg: f32[4,5,3] = weight {name="experts.{0}.gate"}
      %wu: f32[4,5,3] = weight {name="experts.{0}.up"}
      %0: f32[4,10,3] = concat %wg, %wu {axis=1}
      %1: f32[2,2,10,3] = gather %0, %experts
      %gate_up: f32[2,2,10] = contract %x, %1 {axes="n i, n k f i -> n k f"}
      %gate: f32[2,2,5] = slice %gate_up {axis=2, start=0, stop=5}
      %up: f32[2,2,5] = slice %gate_up {axis=2, start=5, stop=10}
      %out: f32[2,2,5] = mul %gate, %up
      return %out
    }
    }
    "
  `);
});

test("narrow experts that the target stores are gathered narrow", () => {
  const module = parseModule(`
module @m entry @main {
func @main(%x: f32[2,3], %experts: i32[2]) {
  %wg: f16[4,5,3] = weight {name="experts.{0}.gate"}
  %wu: f16[4,2,3] = weight {name="experts.{0}.up"}
  %eg: f16[2,5,3] = gather %wg, %experts
  %eu: f16[2,2,3] = gather %wu, %experts
  %cg: f32[2,5,3] = cast %eg
  %cu: f32[2,2,3] = cast %eu
  %gate: f32[2,5] = contract %x, %cg {axes="n i, n f i -> n f"}
  %up: f32[2,2] = contract %x, %cu {axes="n i, n f i -> n f"}
  return %gate, %up
}
}`);
  const target: Target = { ...jsTarget, storage: [...jsTarget.storage, "f16"] };
  const after = runPasses(module, [mergeContracts], target, { verify: 3 });
  expect(printModule(after)).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @main(%x: f32[2,3], %experts: i32[2]) {
      %wg: f16[4,5,3] = weight {name="experts.{0}.gate"}
      %wu: f16[4,2,3] = weight {name="experts.{0}.up"}
      %0: f16[4,7,3] = concat %wg, %wu {axis=1}
      %1: f16[2,7,3] = gather %0, %experts
      %2: f32[2,7,3] = cast %1
      %gate_up: f32[2,7] = contract %x, %2 {axes="n i, n f i -> n f"}
      %gate: f32[2,5] = slice %gate_up {axis=1, start=0, stop=5}
      %up: f32[2,2] = slice %gate_up {axis=1, start=5, stop=7}
      return %gate, %up
    }
    }
    "
  `);
});

const untouched: Record<string, string> = {
  "another input": '%b: f32[2,4] = contract %y, %w1 {axes="n i, o i -> n o"}',
  "another dtype": '%b: f32[2,4] = contract %x, %half {axes="n i, o i -> n o"}',
  "another signature": '%b: f32[2,4] = contract %x, %turned {axes="n i, i o -> n o"}',
  "no weight": '%b: f32[2,2] = contract %x, %y {axes="n i, o i -> n o"}',
};

test.each(Object.entries(untouched))("not merged: %s", (_, second) => {
  const module = parseModule(`
module @m entry @main {
func @main(%x: f32[2,3], %y: f32[2,3]) {
  %w0: f32[4,3] = weight {name="w0"}
  %w1: f32[4,3] = weight {name="w1"}
  %half: f16[4,3] = weight {name="half"}
  %turned: f32[3,4] = weight {name="turned"}
  %a: f32[2,4] = contract %x, %w0 {axes="n i, o i -> n o"}
  ${second}
  return %a, %b
}
}`);
  const legalized = runPasses(module, [legalize(jsTarget)], jsTarget);
  const after = runPasses(legalized, [mergeContracts], jsTarget, { verify: 2 });
  expect(printModule(after)).toBe(printModule(legalized));
});

test("a weight that is read elsewhere too stays as it is", () => {
  const text = `
module @m entry @main {
func @main(%x: f32[2,3], %tokens: i32[2]) {
  %w0: f32[4,3] = weight {name="w0"}
  %w1: f32[4,3] = weight {name="w1"}
  %e: f32[2,3] = gather %w0, %tokens
  %a: f32[2,4] = contract %x, %w0 {axes="n i, o i -> n o"}
  %b: f32[2,4] = contract %x, %w1 {axes="n i, o i -> n o"}
  return %a, %b, %e
}
}`;
  expect(printModule(merged(text))).not.toContain("concat");
});

test("for GPUs the rows of two weights of one size are mixed, those of experts too", () => {
  const text = `
module @m entry @main {
func @main(%x: f32[1,3], %e: i32[2]) {
  %wg: f32[64,3] = weight {name="gate"}
  %wu: f32[64,3] = weight {name="up"}
  %g: f32[1,64] = contract %x, %wg {axes="n i, o i -> n o"}
  %u: f32[1,64] = contract %x, %wu {axes="n i, o i -> n o"}
  %tg: f32[4,32,3] = weight {name="gates"}
  %tu: f32[4,32,3] = weight {name="ups"}
  %rg: f32[2,32,3] = gather %tg, %e
  %ru: f32[2,32,3] = gather %tu, %e
  %eg: f32[1,2,32] = contract %x, %rg {axes="n i, e o i -> n e o"}
  %eu: f32[1,2,32] = contract %x, %ru {axes="n i, e o i -> n e o"}
  return %g, %u, %eg, %eu
}
}`;
  const after = printModule(merged(text, webgpuTarget));
  expect(after.match(/contract/g)).toHaveLength(2);
  expect(after).toContain("f32[1,2,2,32]");
  expect(printModule(merged(text))).not.toContain("f32[1,2,2,32]");
});
