/** Products of codes for many tokens, lowered for GPUs, against the interpreter; in the executor that finds races. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Builder, type Module, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { webgpuTargetOf } from "../../../src/ir/target.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";
import { runLowered } from "../lowered.ts";

interface Product {
  /** Of the input: leading axes. */
  readonly lead: readonly number[];
  readonly blocks: number;
  readonly groups: number;
  readonly bits: 4 | 8;
  readonly affine: boolean;
  /** Whether something is done with the result where it is made. */
  readonly epilogue: boolean;
}

function productModule({ lead, blocks, groups, bits, affine, epilogue }: Product): Module {
  const builder = new Builder();
  const params = [
    builder.param("x", "i8", [...lead, groups * 32]),
    builder.param("x_scale", "f16", [...lead, groups]),
    builder.param("x_sum", "f32", [...lead, groups]),
    builder.param("w", "u8", [blocks, groups, 8, 4, 4]),
    builder.param("w_scale", "f16", [blocks, groups, 32 / bits]),
  ];
  if (affine) params.push(builder.param("w_min", "f16", [blocks, groups, 32 / bits]));
  const dot = builder.make("dotGroups", params, { bits, zero: affine ? 0 : bits === 8 ? 128 : 8 });
  if (!epilogue) return makeModule("m", [{ name: "main", params, outs: [dot] }], "main");
  const residual = builder.param("residual", "f32", dot.type.shape);
  const out = builder.make("add", [dot, residual], {});
  return makeModule("m", [{ name: "main", params: [...params, residual], outs: [out] }], "main");
}

/** Scales are powers of two and small, so that every sum is exact in f32, whatever its order. */
function inputsOf(module: Module, seed: number): Tensor[] {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 16) & 0xffff;
  };
  const tensors = module.funcs.get("main")!.params.map(({ type: { dtype, shape } }) => {
    const length = shape.reduce((a, b) => a * b, 1);
    const value = () => (dtype === "u8" ? next() % 256 : dtype === "i8" ? (next() % 256) - 128 : 2 ** ((next() % 2) - 1));
    return tensorOf(dtype, shape, Array.from({ length }, value));
  });
  const [x, , sums] = tensors;
  for (let g = 0; g < sums!.data.length; g++) {
    sums!.data[g] = 0;
    for (let k = 0; k < 32; k++) sums!.data[g]! += x!.data[32 * g + k]!;
  }
  return tensors;
}

const limits = fc.constantFrom(
  { invocations: 256, sharedBytes: 49152, buffers: 8 },
  { invocations: 256, sharedBytes: 16384, buffers: 8 },
  { invocations: 32, sharedBytes: 16384, buffers: 8 },
);

test("products of many tokens", () => {
  const arbProduct: fc.Arbitrary<Product> = fc.record({
    lead: fc.constantFrom([16], [17], [32], [2, 20], [64], [70]),
    blocks: fc.constantFrom(1, 3, 8, 9),
    groups: fc.constantFrom(1, 2, 3, 4, 8),
    bits: fc.constantFrom(4, 8),
    affine: fc.boolean(),
    epilogue: fc.boolean(),
  });
  fc.assert(
    fc.property(arbProduct, limits, fc.nat(), (product, given, seed) => {
      const module = productModule(product);
      const inputs = inputsOf(module, seed);
      const { results } = runLowered(module, inputs, { target: webgpuTargetOf(given) });
      expect(results.map(({ data }) => [...data])).toEqual(interpret(module, inputs).map(({ data }) => [...data]));
    }),
    { numRuns: 12 },
  );
});
