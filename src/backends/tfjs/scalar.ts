/** Scalar ops in TensorFlow.js: one row per scalar op, for operands that its broadcasting brings to one shape. */
import type { ScalarOp } from "../../ir/scalar.ts";
import type { Computed } from "./engine.ts";
import type { Tf, TfTensor } from "./tf.ts";

type ScalarRow = (tf: Tf, dtype: Computed, x: TfTensor, y: TfTensor, z: TfTensor) => TfTensor;

export const scalarRows = {
  // Of integers, engines may compute these in f32.
  neg: (tf, dtype, x) => (dtype === "i32" ? tf.sub(int(tf, 0), x) : tf.neg(x)),
  abs: (tf, dtype, x) => (dtype === "i32" ? tf.maximum(x, tf.sub(int(tf, 0), x)) : tf.abs(x)),
  exp: (tf, _, x) => tf.exp(x),
  log: (tf, _, x) => tf.log(x),
  sqrt: (tf, _, x) => tf.sqrt(x),
  rsqrt: (tf, _, x) => tf.rsqrt(x),
  sin: (tf, _, x) => tf.sin(x),
  cos: (tf, _, x) => tf.cos(x),
  tanh: (tf, _, x) => tf.tanh(x),
  sigmoid: (tf, _, x) => tf.sigmoid(x),
  floor: (tf, _, x) => tf.floor(x),
  round: (tf, _, x) => tf.round(x),
  not: (tf, _, x) => tf.logicalNot(x),
  add: (tf, _, x, y) => tf.add(x, y),
  sub: (tf, _, x, y) => tf.sub(x, y),
  mul: (tf, dtype, x, y) => (dtype === "i32" ? mulInt(tf, x, y) : tf.mul(x, y)),
  div: (tf, dtype, x, y) => (dtype === "i32" ? divInt(tf, x, y) : tf.div(x, y)),
  rem: (tf, dtype, x, y) => (dtype === "i32" ? remInt(tf, x, y) : remFloat(tf, x, y)),
  pow: (tf, _, x, y) => tf.pow(x, y),
  min: (tf, _, x, y) => tf.minimum(x, y),
  max: (tf, _, x, y) => tf.maximum(x, y),
  and: (tf, _, x, y) => tf.logicalAnd(x, y),
  or: (tf, _, x, y) => tf.logicalOr(x, y),
  eq: (tf, dtype, x, y) => tf.equal(number(tf, dtype, x), number(tf, dtype, y)),
  ne: (tf, dtype, x, y) => tf.notEqual(number(tf, dtype, x), number(tf, dtype, y)),
  lt: (tf, dtype, x, y) => tf.less(number(tf, dtype, x), number(tf, dtype, y)),
  le: (tf, dtype, x, y) => tf.lessEqual(number(tf, dtype, x), number(tf, dtype, y)),
  gt: (tf, dtype, x, y) => tf.greater(number(tf, dtype, x), number(tf, dtype, y)),
  ge: (tf, dtype, x, y) => tf.greaterEqual(number(tf, dtype, x), number(tf, dtype, y)),
  select: (tf, dtype, x, y, z) => selects[dtype](tf, x, y, z),
} as const satisfies Record<ScalarOp, ScalarRow>;

type Select = (tf: Tf, condition: TfTensor, a: TfTensor, b: TfTensor) => TfTensor;

/** Not every engine chooses among truth values, or among large integers without rounding them. */
const selects: Record<Computed, Select> = {
  f32: (tf, c, a, b) => tf.where(c, a, b),
  i32: selectInt,
  bool: (tf, c, a, b) => tf.logicalOr(tf.logicalAnd(c, a), tf.logicalAnd(tf.logicalNot(c), b)),
};

export function selectInt(tf: Tf, condition: TfTensor, a: TfTensor, b: TfTensor): TfTensor {
  return tf.add(b, tf.mul(tf.cast(condition, "int32"), tf.sub(a, b)));
}

/** Comparisons are of numbers. */
function number(tf: Tf, dtype: Computed, x: TfTensor): TfTensor {
  return dtype === "bool" ? tf.cast(x, "int32") : x;
}

const int = (tf: Tf, value: number) => tf.scalar(value, "int32");

/** Engines may multiply in double, where a product of 64 bits loses its low ones: so in halves of y. */
function mulInt(tf: Tf, x: TfTensor, y: TfTensor): TfTensor {
  const high = tf.floorDiv(y, int(tf, 65_536));
  const low = tf.sub(y, tf.mul(high, int(tf, 65_536)));
  return tf.add(tf.mul(x, low), tf.mul(tf.mul(x, high), int(tf, 65_536)));
}

/** The sign of the dividend; by zero gives zero. */
function remInt(tf: Tf, x: TfTensor, y: TfTensor): TfTensor {
  const zero = int(tf, 0);
  const divisor = selectInt(tf, tf.equal(y, zero), int(tf, 1), y);
  const rem = tf.mod(x, divisor); // the sign of the divisor
  const differs = tf.logicalAnd(tf.notEqual(rem, zero), tf.notEqual(tf.less(x, zero), tf.less(divisor, zero)));
  return selectInt(tf, differs, tf.sub(rem, divisor), rem);
}

/** Towards zero; by zero gives zero. */
function divInt(tf: Tf, x: TfTensor, y: TfTensor): TfTensor {
  const zero = int(tf, 0);
  const none = tf.equal(y, zero);
  const divisor = selectInt(tf, none, int(tf, 1), y);
  const dividend = tf.sub(x, remInt(tf, x, divisor));
  // Engines may divide in f32: what that leaves is divided again, which is exact as it is small.
  const near = tf.floorDiv(dividend, divisor);
  const left = tf.sub(dividend, mulInt(tf, near, divisor));
  return selectInt(tf, none, zero, tf.add(near, tf.floorDiv(left, divisor)));
}

function remFloat(tf: Tf, x: TfTensor, y: TfTensor): TfTensor {
  const rem = tf.mod(tf.abs(x), tf.abs(y));
  return tf.where(tf.less(x, tf.scalar(0, "float32")), tf.neg(rem), rem);
}
