/**
 * What tensor ops are lowered to: the few primitives that every TensorFlow has. The table of ops (ops.ts) is written
 * against this interface, and an engine implements it by running each primitive at once (eager.ts) or by adding a node
 * to a graph.
 *
 * A value `T` stands for a tensor of an IR dtype; which dtype the engine *carries* it as is the engine's business.
 * Arithmetic sees f32, i32 and bool alone (`Computed`). Values of all other dtypes are moved and cast, never computed
 * with, so an engine may keep bf16 as bf16 or as f32, and i8 codes as int8, int32 or f32, provided that `cast` from the
 * dtype gives its value exactly and `cast` to it rounds as the IR says. u32 is in no program that gets here: TensorFlow
 * has hardly a kernel for it, so targets of tensor level do not store it.
 */
import type { ScalarOp } from "../../ir/scalar.ts";
import type { TensorData } from "../../ir/tensor.ts";
import type { DType, Shape, TensorType } from "../../ir/types.ts";

/** Dtypes that are computed with. */
export type Computed = "f32" | "i32" | "bool";

export interface MatMulOptions {
  /** a is [batch, k, m] instead of [batch, m, k]. */
  readonly transposeA: boolean;
  /** b is [batch, n, k] instead of [batch, k, n]. */
  readonly transposeB: boolean;
}

/**
 * `gathered`: the rows are copied together first, as for any other reader; `grouped`: by row, each multiplied where it is,
 * for engines whose indices `read` gives at once; `masked`: where more rows are chosen than there are, by every row in
 * turn, with masks that say what it counts for.
 */
export type ChosenRows<T> =
  | { readonly by: "gathered" }
  | { readonly by: "masked" }
  | { readonly by: "grouped"; readonly read: (index: T) => ArrayLike<number> };

export interface TensorEngine<T> {
  // Sources.

  /** A tensor of these contents, stored as in `Tensor.data`: bits of bf16, two i4 to a byte. */
  readonly constant: (type: TensorType, data: TensorData) => T;
  /** A scalar (rank 0) of a computed dtype. Infinities, NaN and the largest and smallest i32 are values too. */
  readonly fill: (dtype: Computed, value: number) => T;
  /** i32[n]: 0, 1, .. n - 1. */
  readonly iota: (n: number) => T;

  // Arithmetic.

  /**
   * The scalar op of each element, by the meaning in `ir/scalar.ts`: i32 wraps, integer division is towards zero and by
   * zero gives zero, `round` goes to even, min and max give NaN if either is. `dtype` is that of the operands, for
   * `select` of the last two; its condition is bool. Operands broadcast: shapes are aligned at the last axis, an axis
   * that is missing or 1 repeats.
   */
  readonly apply: (op: ScalarOp, dtype: Computed, operands: readonly T[]) => T;
  /** Floats round to nearest even (f8e4m3 saturates), integers truncate and saturate, NaN becomes 0 as an integer. */
  readonly cast: (x: T, from: DType, to: DType) => T;
  /** f32 [batch, m, k] by [batch, k, n] -> [batch, m, n], sums in f32 or wider in any order. */
  readonly matMul: (a: T, b: T, options: MatMulOptions) => T;
  /** f32 [.., d] -> [..], d at least 1; in f32 or wider, in any order. */
  readonly reduceSum: (x: T) => T;
  /** f32 [.., d] -> [..], d at least 1; NaN if any is. */
  readonly reduceMax: (x: T) => T;
  /** f32 [.., d] -> i32 [..]: the lowest index of the largest, NaN counting as -inf. */
  readonly argMax: (x: T) => T;
  /** f32 [.., d] -> f32 and i32 [.., k], largest first, of equals the lower index first, NaN counting as -inf. */
  readonly topK: (x: T, k: number) => { readonly values: T; readonly indices: T };

  /** How products with rows that were chosen from a table are made (rows-chosen.ts). */
  readonly chosen: ChosenRows<T>;

  // Movement, of values of any dtype.

  readonly reshape: (x: T, shape: Shape) => T;
  /** Axis i of the result is axis `perm[i]` of x. */
  readonly transpose: (x: T, perm: readonly number[]) => T;
  /** The box of `size` elements from `begin` on; one number per axis. */
  readonly slice: (x: T, begin: readonly number[], size: readonly number[]) => T;
  /** One or more operands of one dtype. */
  readonly concat: (xs: readonly T[], axis: number) => T;
  readonly broadcastTo: (x: T, shape: Shape) => T;
  /**
   * With `batch` leading axes in common: x [b.., s, r..] and i32 index [b.., i..] -> [b.., i.., r..]. Indices are within
   * 0 .. s - 1: whoever calls clamps them.
   */
  readonly gather: (x: T, index: T, batch: number) => T;
  /**
   * x [s, r..] with row `slots[i]` replaced by row i of `rows` [n, r..]; rows whose i32 slot is outside 0 .. s - 1 are
   * dropped, of equal slots the last row stays. x itself stays as it is, unless `dead` says that it is not read again:
   * then the result may be in its memory.
   */
  readonly updateRows: (x: T, rows: T, slots: T, dead: boolean) => T;

  // Lifetime. A graph, whose nodes live as long as it does, returns what `make` does and disposes of nothing.

  /** Runs `make` and disposes of all that it made but what it returns. */
  readonly scope: (make: () => T) => T;
  /** Gives the memory back. */
  readonly dispose: (x: T) => void;
}
