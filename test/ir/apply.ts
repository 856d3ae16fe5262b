/** One op on given tensors, through the Builder and the interpreter. */
import { Builder, type Func, makeModule, type Node } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import type { AttrsOf, OpName } from "../../src/ir/ops/all.ts";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";

/** Numbers nested by axis: `[[1, 2], [3, 4]]` has shape [2, 2]. */
export type Nested = number | readonly Nested[];

export function t(dtype: DType, values: Nested): Tensor {
  const shape: number[] = [];
  let flat: readonly Nested[] = [values];
  while (typeof flat[0] === "object") {
    shape.push(flat[0].length);
    flat = flat.flatMap((part) => part as readonly Nested[]); // rows are alike by construction
  }
  return tensorOf(dtype, shape, flat as readonly number[]); // no arrays left
}

export const f32 = (values: Nested) => t("f32", values);
export const i32 = (values: Nested) => t("i32", values);

/** The node `op` on parameters of the tensors' types. */
export function nodeOf<N extends OpName>(op: N, attrs: AttrsOf<N>, ...ins: readonly Tensor[]): [Node<N>, Func] {
  const builder = new Builder();
  const params = ins.map(({ type }, i) => builder.param(`x${i}`, type.dtype, type.shape));
  const node = builder.make(op, params, attrs);
  return [node, { name: "main", params, outs: [node] }];
}

export function apply<N extends OpName>(op: N, attrs: AttrsOf<N>, ...ins: readonly Tensor[]): Tensor {
  const [, func] = nodeOf(op, attrs, ...ins);
  return interpret(makeModule("m", [func], "main"), ins)[0]!;
}
