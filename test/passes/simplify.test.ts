/** Simplification of small programs, as text: input, pass, output. */
import { expect, test } from "vitest";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { checkDisabled } from "../../src/passes/disabled.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { type SimplifyOptions, simplify } from "../../src/passes/simplify.ts";

function simplified(body: string, options?: SimplifyOptions): string {
  const module = parseModule(`module @m entry @main {\nfunc @main${body}\n}`);
  const lines = printModule(runPasses(module, [simplify(options)], jsTarget, { verify: 2 })).split("\n");
  return lines.slice(2, lines.indexOf("}")).join("\n");
}

test("constants and identities", () => {
  const text = `(%x: f32[2,3]) {
  %one: f32[] = full {dtype="f32", shape=[], value=1}
  %two: f32[] = full {dtype="f32", shape=[], value=2}
  %ones: f32[2,3] = broadcast %one
  %twos: f32[2,3] = broadcast %two
  %fours: f32[2,3] = mul %twos, %twos
  %same: f32[2,3] = mul %ones, %x
  %quarter: f32[2,3] = div %same, %fours
  %yes: bool[2,3] = lt %ones, %twos
  %out: f32[2,3] = select %yes, %quarter, %x
  return %out
}`;
  expect(simplified(text)).toMatchInlineSnapshot(`
    "  %0: f32[2,3] = full {value=0.25}
      %quarter: f32[2,3] = mul %x, %0
      return %quarter"
  `);
});

test("x + 0 stays unless finite values are promised", () => {
  const text = `(%x: f32[2]) {
  %zero: f32[2] = full {dtype="f32", shape=[2], value=0}
  %out: f32[2] = add %zero, %x
  return %out
}`;
  expect(simplified(text)).toContain("add %x, %");
  expect(simplified(text, { allow: ["finite"] })).toContain("return %x");
});

test("movement: cut, joined and turned back", () => {
  const text = `(%x: f32[4,6], %i: i32[3]) {
  %left: f32[4,2] = slice %x {axis=1, start=0, stop=2}
  %right: f32[4,4] = slice %x {axis=1, start=2, stop=6}
  %part: f32[4,3] = slice %right {axis=1, start=0, stop=3}
  %joined: f32[4,5] = concat %left, %part {axis=1}
  %t: f32[5,4] = transpose %joined {perm=[1, 0]}
  %column: f32[5,4,1] = reshape %t {shape=[5, 4, 1]}
  %row: f32[1,5,4] = transpose %column {perm=[2, 0, 1]}
  %flat: f32[5,4] = reshape %row {shape=[5, 4]}
  %back: f32[4,5] = transpose %flat {perm=[1, 0]}
  %picked: f32[3,5] = gather %back, %i
  return %picked
}`;
  expect(simplified(text)).toMatchInlineSnapshot(`
    "  %joined: f32[4,5] = slice %x {axis=1, start=0, stop=5}
      %picked: f32[3,5] = gather %joined, %i
      return %picked"
  `);
});

test("casts that keep every value", () => {
  const text = `(%x: f32[2], %w: bf16[2]) {
  %0: f32[2] = cast %w
  %1: bf16[2] = cast %0
  %2: f32[2] = cast %1
  %3: bf16[2] = cast %x
  %4: f32[2] = cast %3
  return %2, %4
}`;
  expect(simplified(text)).toMatchInlineSnapshot(`
    "  %0: f32[2] = cast %w
      %1: bf16[2] = cast %x
      %2: f32[2] = cast %1
      return %0, %2"
  `);
});

test("names to be disabled must exist", () => {
  const passes = tensorPasses(jsTarget);
  checkDisabled(passes, { passes: ["absorb"], rules: ["neg_neg"] });
  expect(() => checkDisabled(passes, { passes: ["absord"] })).toThrow('Did you mean "absorb"?');
  expect(() => checkDisabled(passes, { rules: ["neg_ngg"] })).toThrow('Did you mean "neg_neg"?');
});
