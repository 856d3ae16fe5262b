/** The interpreter: inputs, calls, weights, and its errors. */
import { expect, test, vi } from "vitest";
import { interpret } from "../../src/ir/interpret.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import { same } from "../arb/compare.ts";
import { f32, i32, t } from "./apply.ts";

const parsed = (text: string) => parseModule(`module @m entry @main {\n${text}\n}`);

const block = parsed(`func @block(%x: f32[2], %y: f32[2]) {
  %w: f32[2] = weight {name="layers.{layer}.w"}
  %e: f32[2,2] = weight {name="layers.{layer}.experts.{0}.w"}
  %s: f32[2] = reduceSum %e
  %0: f32[2] = add %x, %w
  %1: f32[2] = mul %y, %s
  return %0, %1
}
func @main(%x: f32[2]) {
  %a: f32[2], %b: f32[2] = call @block %x, %x {layer=0}
  %c: f32[2], %d: f32[2] = call @block %a, %b {layer=1}
  return %c, %d
}`);

const table: Record<string, Tensor> = {
  "layers.0.w": f32([1, 2]),
  "layers.1.w": f32([10, 20]),
  "layers.0.experts.0.w": f32([1, 1]),
  "layers.0.experts.1.w": f32([1, 2]),
  "layers.1.experts.0.w": f32([2, 2]),
  "layers.1.experts.1.w": f32([0, 1]),
};

test("calls bind {layer}, {0} stacks, and results of one call run it once", () => {
  const weights = vi.fn((name: string) => table[name]!);
  same(interpret(block, [f32([5, 7])], { weights }), [f32([16, 29]), f32([5 * 2 * 4, 7 * 3 * 1])]);
  expect(weights.mock.calls.flat()).toEqual([...new Set(weights.mock.calls.flat())]);
  expect(weights).toHaveBeenCalledTimes(6);
});

test("errors", () => {
  const weights = (name: string) => table[name]!;
  expect(() => interpret(block, [], { weights })).toThrow("@main: expected 1 inputs, got 0");
  expect(() => interpret(block, [i32([1, 2])], { weights })).toThrow("@main: input x: expected f32[2], got i32[2]");
  expect(() => interpret(block, [f32([1, 2])])).toThrow("weight layers.{layer}.w: no source of weights was given");
  expect(() => interpret(block, [f32([1, 2])], { weights: () => f32([1]) })).toThrow(
    "weight layers.0.w: expected f32[2], got f32[1]",
  );
  const unbound = parsed('func @main() {\n%0: f32[1] = weight {name="{layer}"}\nreturn %0\n}');
  expect(() => interpret(unbound, [], { weights })).toThrow("{layer} is not bound");
  const foreign = parsed('func @main() {\n%0: f32[1] = param {name="x"}\nreturn %0\n}');
  expect(() => interpret(foreign, [])).toThrow("@main: x is not a parameter of the function");
  expect(() => interpret({ ...block, entry: "start" }, [])).toThrow("module @m: there is no function @start");
});

test("parts of an odd number of 4-bit elements stack", () => {
  const module = parsed('func @main() {\n%0: i4[3,3] = weight {name="{0}"}\n%1: f32[3,3] = cast %0\nreturn %1\n}');
  const parts: Record<string, Tensor> = { 0: t("i4", [1, -2, 3]), 1: t("i4", [-4, 5, -6]), 2: t("i4", [7, -8, 0]) };
  const expected = tensorOf("f32", [3, 3], [1, -2, 3, -4, 5, -6, 7, -8, 0]);
  same(interpret(module, [], { weights: (name) => parts[name]! }), [expected]);
});

test("a value used twice, a result twice, and an unused parameter", () => {
  const module = parsed(
    "func @main(%x: f32[1], %y: f32[1]) {\n%0: f32[1] = mul %x, %x\n%1: f32[1] = add %0, %0\nreturn %0, %1, %0, %x\n}",
  );
  same(interpret(module, [f32([3]), f32([0])]), [f32([9]), f32([18]), f32([9]), f32([3])]);
});

test("observe sees each value once, operands first", () => {
  const module = parsed("func @main(%x: f32[1]) {\n%0: f32[1] = neg %x\n%1: f32[1] = add %0, %0\nreturn %1\n}");
  const seen: string[] = [];
  interpret(module, [f32([3])], { observe: (node, value) => seen.push(`${node.op} ${value.data[0]}`) });
  expect(seen).toEqual(["param 3", "neg -3", "add -6"]);
});
