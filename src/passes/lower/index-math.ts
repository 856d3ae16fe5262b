/** Index arithmetic of lowering: flat offsets, and indices of one shape seen through another. */
import { type Expr, iadd, idiv, imul, int, irem, op } from "../../ir/kernel/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../../ir/types.ts";

/** The row-major offset of an index. */
export function flatten(idx: readonly Expr[], shape: Shape): Expr {
  const strides = stridesOf(shape);
  return idx.reduce((sum, i, axis) => iadd(sum, imul(i, int(strides[axis]!))), int(0));
}

/** The index of row-major offset `offset`. */
export function unflatten(offset: Expr, shape: Shape): Expr[] {
  const strides = stridesOf(shape);
  return shape.map((dim, axis) => {
    if (dim === 1) return int(0);
    const quotient = idiv(offset, int(strides[axis]!));
    return axis === 0 || strides[axis]! * dim === sizeOf(shape) ? quotient : irem(quotient, int(dim));
  });
}

/** Axes `a` below `endA` of one shape that hold the same elements as axes `b` below `endB` of another. */
export interface AxisMatch {
  readonly a: number;
  readonly endA: number;
  readonly b: number;
  readonly endB: number;
}

/** Runs of axes with equal products, as short as they can be; the shapes have one size. */
export function matchAxes(to: Shape, from: Shape): AxisMatch[] {
  const matches: AxisMatch[] = [];
  let [a, b] = [0, 0];
  while (a < to.length || b < from.length) {
    let [endA, endB] = [Math.min(a + 1, to.length), Math.min(b + 1, from.length)];
    let [sizeA, sizeB] = [sizeOf(to.slice(a, endA)), sizeOf(from.slice(b, endB))];
    while (sizeA !== sizeB) {
      if (sizeA < sizeB) sizeA *= to[endA++]!;
      else sizeB *= from[endB++]!;
    }
    matches.push({ a, endA, b, endB });
    [a, b] = [endA, endB];
  }
  return matches;
}

/**
 * The index in shape `from` of the element at `idx` in shape `to`, both of one size. Runs of axes with equal products
 * are matched first, so that untouched axes pass through without division.
 */
export function reindex(idx: readonly Expr[], to: Shape, from: Shape): Expr[] {
  return matchAxes(to, from).flatMap(({ a, endA, b, endB }) => {
    const offset = flatten(idx.slice(a, endA), to.slice(a, endA));
    return unflatten(offset, from.slice(b, endB));
  });
}

/** The index clamped to `0 .. size - 1`. */
export function clampTo(index: Expr, size: number): Expr {
  if (index.k === "num") return int(Math.min(Math.max(index.value, 0), size - 1));
  return op("min", op("max", index, int(0)), int(size - 1));
}

/** 0 .. length - 1. */
export const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
