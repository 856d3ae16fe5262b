/** Products of codes as modules, and inputs for which every sum is exact. */
import { Builder, type Module, makeModule } from "../../../src/ir/graph.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";

export interface Product {
  /** Of the input: leading axes. */
  readonly lead: readonly number[];
  readonly blocks: number;
  readonly groups: number;
  readonly bits: 4 | 8;
  readonly affine: boolean;
  /** Whether something is done with the result where it is made. */
  readonly epilogue: boolean;
}

export function productModule({ lead, blocks, groups, bits, affine, epilogue }: Product): Module {
  const builder = new Builder();
  const params = [
    builder.param("x", "i8", [...lead, groups * 32]),
    builder.param("x_scale", "f16", [...lead, groups]),
    builder.param("x_sum", "f32", [...lead, groups]),
    builder.param("w", "u8", [blocks, groups, bits / 4, 32 / bits, 16]),
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
export function inputsOf(module: Module, seed: number): Tensor[] {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 16) & 0xffff;
  };
  const tensors = module.funcs.get("main")!.params.map(({ type: { dtype, shape } }) => {
    const length = shape.reduce((a, b) => a * b, 1);
    // Some picks are past the table's end, and taken as its last.
    if (dtype === "i32")
      return tensorOf(
        dtype,
        shape,
        Array.from({ length }, () => (next() % 5) - 1),
      );
    const value = () =>
      dtype === "u8" ? next() % 256 : dtype === "i8" ? (next() % 256) - 128 : 2 ** ((next() % 2) - 1);
    return tensorOf(dtype, shape, Array.from({ length }, value));
  });
  const [x, , sums] = tensors;
  for (let g = 0; g < sums!.data.length; g++) {
    sums!.data[g] = 0;
    for (let k = 0; k < 32; k++) sums!.data[g]! += x!.data[32 * g + k]!;
  }
  return tensors;
}

/** Weights of each of some experts, and which each token chose. */
export function expertsModule({ lead, blocks, groups, bits, affine }: Omit<Product, "epilogue">): Module {
  const builder = new Builder();
  const experts = 3;
  const tokens = lead[0]!;
  const table = (name: string, dtype: "u8" | "f16", ...shape: number[]) =>
    builder.param(name, dtype, [experts, blocks, groups, ...shape]);
  const params = [
    builder.param("x", "i8", [...lead, groups * 32]),
    builder.param("x_scale", "f16", [...lead, groups]),
    builder.param("x_sum", "f32", [...lead, groups]),
    table("w", "u8", bits / 4, 32 / bits, 16),
    table("w_scale", "f16", 32 / bits),
    ...(affine ? [table("w_min", "f16", 32 / bits)] : []),
  ];
  const picks = builder.param("picks", "i32", [tokens, lead[1] ?? 2]);
  const chosen = params.slice(3).map((each) => builder.make("gather", [each, picks], {}));
  const attrs = { bits, zero: affine ? 0 : bits === 8 ? 128 : 8 };
  const dot = builder.make("dotGroups", [...params.slice(0, 3), ...chosen], attrs);
  return makeModule("m", [{ name: "main", params: [...params, picks], outs: [dot] }], "main");
}
