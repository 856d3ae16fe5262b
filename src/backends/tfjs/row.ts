/**
 * Rows of the table of ops: how one op is said in primitives of an engine. A value may be *spread*: the tensor has size 1,
 * or no axis at all, where its type has more, and stands for its repetition. So a broadcast costs nothing, and arithmetic
 * leaves the repeating to the engine, which does it without a copy.
 */
import type { Node } from "../../ir/graph.ts";
import type { OpName } from "../../ir/ops/all.ts";
import { type Shape, sameShape, sizeOf } from "../../ir/types.ts";
import type { TensorEngine } from "./engine.ts";

/** A tensor and the shape that it really has. */
export interface Part<T> {
  readonly at: T;
  readonly shape: Shape;
  /** As an operand: nothing reads the tensor, or what it shares memory with, after this op. */
  readonly dead?: boolean;
}

export type Row<N extends OpName> = <T>(engine: TensorEngine<T>, ins: readonly Part<T>[], node: Node<N>) => Part<T>;

/** The tensor in the shape of its type. */
export function wholeOf<T>(engine: TensorEngine<T>, { at, shape }: Part<T>, type: Shape): T {
  return sameShape(shape, type) ? at : engine.broadcastTo(at, type);
}

/** A row for an op that takes its operands whole and makes its result whole. */
export function whole<N extends OpName>(
  lower: <T>(engine: TensorEngine<T>, ins: readonly T[], node: Node<N>) => T,
): Row<N> {
  return (engine, ins, node) => ({
    at: lower(
      engine,
      ins.map((part, i) => wholeOf(engine, part, node.ins[i]!.type.shape)),
      node,
    ),
    shape: node.type.shape,
  });
}

/** The same for an op that only moves elements: one number that stands for all stays one number. */
export function moving<N extends OpName>(
  lower: <T>(engine: TensorEngine<T>, ins: readonly T[], node: Node<N>) => T,
): Row<N> {
  const row = whole(lower);
  return (engine, ins, node) => {
    const [x] = ins;
    const alone = ins.length === 1 && x !== undefined && x.shape.length === 0 && sizeOf(node.type.shape) > 0;
    return alone ? x : row(engine, ins, node);
  };
}

/** The shape that shapes broadcast to: aligned at the last axis, sizes of 1 repeat. */
export function spreadShape(shapes: readonly Shape[]): Shape {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, i) => {
    const sizes = shapes.map((shape) => shape[i - rank + shape.length] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
}
