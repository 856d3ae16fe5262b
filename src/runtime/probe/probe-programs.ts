/**
 * The small programs that figures are measured with: a chain of products of one square matrix with n vectors, each taking
 * the result of the one before it, as the layers of a model do; where launches are measured, with what layers have between
 * products: a norm before it and a softmax behind it, which are too small for many threads or for a whole GPU.
 */
import { type Compiled, compileToPlan } from "../../compile.ts";
import { maths } from "../../ir/build.ts";
import { Builder, type Func, type Module, makeModule } from "../../ir/graph.ts";
import type { Target } from "../../ir/target.ts";

export interface ChainShape {
  /** Vectors that the matrix is multiplied with. */
  readonly vectors: number;
  /** Rows and columns of the matrix. */
  readonly size: number;
  /** Products in a row. */
  readonly links: number;
  readonly format: "f32" | "int8";
  /** Whether norms and softmaxes stand between the products. */
  readonly layered?: boolean;
}

export function chainOps({ vectors, size, links }: ChainShape): number {
  return 2 * vectors * size * size * links;
}

export function chainBytes({ size, links, format }: ChainShape): number {
  return (format === "f32" ? 4 : 1) * size * size * links;
}

/** The links are calls of one function, so that it is compiled once. */
export function chainModule({ vectors, size, links, layered = false }: ChainShape): Module {
  const builder = new Builder();
  const { contract, rmsNorm, softmax, full } = maths(builder);
  const input = builder.param("x", "f32", [vectors, size]);
  const weight = builder.weight("w", "f32", [size, size]);
  const inner = layered ? rmsNorm(input, full("f32", [size], 1), 1e-6) : input;
  const product = contract("n i, o i -> n o", inner, weight);
  const link: Func = { name: "link", params: [input], outs: [layered ? softmax(product) : product] };
  const start = builder.param("start", "f32", [vectors, size]);
  let x: typeof start | ReturnType<Builder["call"]>[number] = start;
  for (let i = 0; i < links; i++) x = builder.call(link, [x])[0]!;
  return makeModule("probe", [link, { name: "chain", params: [start], outs: [x] }], "chain");
}

export function compileChain(shape: ChainShape, target: Target): Compiled {
  const quantize = shape.format === "int8" ? { quantize: { weights: "int8", activations: "int8" } as const } : {};
  return compileToPlan(chainModule(shape), target, { verify: 0, ...quantize });
}
