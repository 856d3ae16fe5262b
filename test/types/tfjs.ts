/** Our own interface of TensorFlow.js is what the real package has: checked by `tsc`, never run. */
import type * as real from "@tensorflow/tfjs-core";
import type { Tf, TfTensor } from "../../src/backends/tfjs/tf.ts";

declare const theirs: typeof real;
export const names: readonly (keyof typeof real)[] = [] as (keyof Tf)[];
export const tensor: TfTensor = {} as real.Tensor2D;
type Unary = (x: real.Tensor) => real.Tensor;
type Binary = (a: real.Tensor, b: real.Tensor) => real.Tensor;
export const unary: Record<"neg" | "exp" | "log" | "sqrt" | "rsqrt" | "round" | "sigmoid" | "logicalNot", Unary> =
  theirs;
export const binary: Record<"add" | "sub" | "mul" | "div" | "floorDiv" | "mod" | "pow" | "minimum" | "less", Binary> =
  theirs;
export const matMul: (a: real.Tensor, b: real.Tensor, x: boolean, y: boolean) => real.Tensor = theirs.matMul;
export const gather: (x: real.Tensor, i: real.Tensor, axis: number, batch: number) => real.Tensor = theirs.gather;
