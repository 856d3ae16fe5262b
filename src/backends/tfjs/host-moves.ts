/**
 * Moves of whole rows for engines whose tensors are in this process' memory. Their own kernels find the place of every
 * single element, which takes longer than all arithmetic of a step; a row is one copy.
 */
import { type Shape, sameShape, sizeOf, stridesOf } from "../../ir/types.ts";
import type { Tf, TfData, TfDType, TfTensor } from "./tf.ts";

/** The elements of a tensor, not a copy. */
export type Elements = (x: TfTensor) => TfData;

/** x [s, r..] by i32 indices of any shape -> [i.., r..]. */
export function gatherRows(tf: Tf, elements: Elements, x: TfTensor, index: TfTensor): TfTensor {
  const row = x.shape.slice(1);
  const width = sizeOf(row);
  const from = elements(x);
  const out = emptyLike(from, sizeOf(index.shape) * width);
  for (const [i, at] of elements(index).entries()) out.set(from.subarray(at * width, (at + 1) * width), i * width);
  return tf.tensor(out, [...index.shape, ...row], dtypeOf(x));
}

/** The box of `size` from `begin` on; undefined where the engine gives it without a copy. */
export function sliceRows(
  tf: Tf,
  elements: Elements,
  x: TfTensor,
  begin: readonly number[],
  size: Shape,
): TfTensor | undefined {
  // Below the last axis that is cut, elements stand together.
  const axis = x.shape.findLastIndex((dim, i) => size[i] !== dim);
  if (axis <= 0 || sizeOf(size.slice(0, axis)) <= 1 || sizeOf(size) === 0) return undefined;
  const strides = stridesOf(x.shape);
  const width = size[axis]! * strides[axis]!;
  const lead = size.slice(0, axis);
  const index = lead.map(() => 0);
  const from = elements(x);
  const out = emptyLike(from, sizeOf(size));
  for (let at = 0; at < out.length; at += width) {
    let start = begin[axis]! * strides[axis]!;
    for (let i = 0; i < axis; i++) start += (begin[i]! + index[i]!) * strides[i]!;
    out.set(from.subarray(start, start + width), at);
    for (let i = axis - 1; i >= 0; i--) {
      index[i] = index[i]! + 1;
      if (index[i]! < lead[i]!) break;
      index[i] = 0;
    }
  }
  return tf.tensor(out, [...size], dtypeOf(x));
}

/** x [.., 1] repeated along its last axis; undefined where other axes repeat too. */
export function spreadElements(tf: Tf, elements: Elements, x: TfTensor, shape: Shape): TfTensor | undefined {
  const last = x.shape.length - 1;
  const width = shape.at(-1);
  const fits = x.shape.length === shape.length && x.shape[last] === 1 && width !== undefined && width > 1;
  if (!fits || !sameShape(x.shape.slice(0, -1), shape.slice(0, -1))) return undefined;
  const from = elements(x);
  const out = emptyLike(from, sizeOf(shape));
  for (let i = 0; i < from.length; i++) out.fill(from[i]!, i * width, (i + 1) * width);
  return tf.tensor(out, [...shape], dtypeOf(x));
}

/** Writes rows into x [s, r..] itself, in order; those whose slot is outside are dropped. */
export function overwriteRows(tf: Tf, elements: Elements, x: TfTensor, rows: TfTensor, slots: TfTensor): TfTensor {
  const [into, from] = [elements(x), elements(rows)];
  const size = x.shape[0]!; // at least one axis, by the op's type rule
  const width = sizeOf(x.shape.slice(1));
  for (const [i, slot] of elements(slots).entries()) {
    if (slot >= 0 && slot < size) into.set(from.subarray(i * width, (i + 1) * width), slot * width);
  }
  return tf.reshape(x, [...x.shape]);
}

function emptyLike(data: TfData, length: number): TfData {
  // Every typed-array constructor takes a length.
  return new (data.constructor as new (length: number) => TfData)(length);
}

function dtypeOf({ dtype }: TfTensor): TfDType {
  return dtype as TfDType; // of tensors made here
}
