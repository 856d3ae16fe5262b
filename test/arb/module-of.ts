/** Small modules written by hand: one function whose parameters are those that its results reach. */
import { type Maths, maths } from "../../src/ir/build.ts";
import { Builder, type Func, isOp, type Module, makeModule, type Node, topoOrder } from "../../src/ir/graph.ts";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import { type DType, dtypeInfo, isFloat, type Shape, sizeOf, type TensorType } from "../../src/ir/types.ts";
import { randomNumbers } from "../models/tiny-models.ts";

export type Build = (m: Maths, p: (name: string, dtype: DType, ...shape: number[]) => Node) => Node | readonly Node[];

/** A function over the parameters `p(name, dtype, ...shape)`, in the order in which they were made. */
export function funcOf(name: string, build: Build, builder = new Builder()): Func {
  const m = maths(builder);
  const made = build(m, (param, dtype, ...shape) => builder.param(param, dtype, shape));
  const outs = Array.isArray(made) ? (made as readonly Node[]) : [made as Node]; // isArray does not narrow readonly arrays
  const params = topoOrder(outs).filter((node) => isOp(node, "param"));
  return { name, params: params.sort((a, b) => a.id - b.id), outs };
}

/** A module whose entry `main` is `funcOf(build)`, after the functions that it calls. */
export function moduleOf(build: Build, callees: readonly Func[] = []): Module {
  return makeModule("test", [...callees, funcOf("main", build)], "main");
}

/** Seeded contents: floats in [-2, 2) with two binary places, integers from -1 to 3 (some outside of what they index). */
export function contentsOf(type: TensorType, seed: number): Tensor {
  const next = randomNumbers(seed);
  const { range } = dtypeInfo(type.dtype);
  const value = () => {
    if (type.dtype === "f8e8m0") return 2 ** Math.round(next() * 2);
    if (isFloat(type.dtype)) return Math.floor(next() * 8) / 4;
    return Math.max(Math.floor(next() * 2.5 + 1.5), range![0]);
  };
  return tensorOf(type.dtype, type.shape, Array.from({ length: sizeOf(type.shape) }, value));
}

/** Inputs for a function. */
export function inputsOf(func: Func, seed = 1): Tensor[] {
  return func.params.map((param, i) => contentsOf(param.type, seed * 31 + i));
}

export function ints(shape: Shape, ...values: readonly number[]): Tensor {
  return tensorOf("i32", shape, values);
}

export function floats(shape: Shape, ...values: readonly number[]): Tensor {
  return tensorOf("f32", shape, values);
}
