/** Which ops the lowering can compute as part of another kernel, apart from those that map a scalar op. */
import type { shapeOps } from "../../ir/ops/shape.ts";

export type InlinableOp =
  | keyof typeof shapeOps
  | "full"
  | "iota"
  | "cast"
  | "gather"
  | "takeAlong"
  | "dequantizeBlocks"
  | "quantizeGroups"
  | "dequantizeGroups"
  | "reduceSum"
  | "reduceMax";
