/**
 * Casts in TensorFlow.js, which has float32, int32 and bool alone. Narrow floats are carried as float32 of values that
 * they have, narrow integers as int32. Rounding to a narrow float is arithmetic: adding a power of two so large that the
 * last bit of the sum is the last bit wanted rounds to nearest even, as addition does.
 */
import { type DType, dtypeInfo } from "../../ir/types.ts";
import { selectInt } from "./scalar.ts";
import type { Tf, TfDType, TfTensor } from "./tf.ts";

/** What carries values of a dtype. */
export function carrierOf(dtype: DType): TfDType {
  const { kind } = dtypeInfo(dtype);
  return kind === "float" ? "float32" : kind === "int" ? "int32" : "bool";
}

export interface CastOptions {
  /** The engine's own cast of integers to floats only says so, and some of its kernels then read integers as floats. */
  readonly namesOnly: boolean;
}

export function castTensor(tf: Tf, x: TfTensor, from: DType, to: DType, { namesOnly }: CastOptions): TfTensor {
  const [source, target] = [carrierOf(from), carrierOf(to)];
  if (target === "bool") return source === "bool" ? x : tf.notEqual(x, tf.scalar(0, source));
  if (target === "int32") {
    if (source === "float32") return toInt(tf, x, dtypeInfo(to).range!); // an integer type
    const whole = source === "bool" ? tf.cast(x, "int32") : x;
    return holds(to, from) ? whole : clampInt(tf, whole, dtypeInfo(to).range!); // an integer type
  }
  const float = source === "float32" ? x : toFloat(tf, x, namesOnly);
  return to === "f32" || to === from ? float : roundFloat(tf, float, to);
}

function toFloat(tf: Tf, x: TfTensor, namesOnly: boolean): TfTensor {
  const named = tf.cast(x, "float32");
  return namesOnly ? tf.mul(named, tf.scalar(1, "float32")) : named;
}

/** Whether every value of `from` is one of `to`. */
function holds(to: DType, from: DType): boolean {
  const [a, b] = [dtypeInfo(to).range, dtypeInfo(from).range];
  return a !== undefined && b !== undefined && a[0] <= b[0] && a[1] >= b[1];
}

function clampInt(tf: Tf, x: TfTensor, [low, high]: readonly [number, number]): TfTensor {
  return tf.minimum(tf.maximum(x, tf.scalar(low, "int32")), tf.scalar(high, "int32"));
}

/** Truncates and saturates; NaN is 0. */
function toInt(tf: Tf, x: TfTensor, [low, high]: readonly [number, number]): TfTensor {
  const f32 = (value: number) => tf.scalar(value, "float32");
  const number = tf.where(tf.equal(x, x), x, f32(0));
  // The largest i32 is no f32: what lies above the largest f32 below it is chosen after the cast.
  const most = high === 2_147_483_647 ? 2_147_483_520 : high;
  const limited = tf.minimum(tf.maximum(number, f32(low)), f32(high === most ? most : 2_147_483_648));
  if (most === high) return tf.cast(limited, "int32");
  const whole = tf.cast(tf.minimum(limited, f32(most)), "int32");
  return selectInt(tf, tf.greater(limited, f32(most)), tf.scalar(high, "int32"), whole);
}

interface FloatFormat {
  /** Bits of the significand, the leading one included. */
  readonly bits: number;
  /** Exponent of the smallest normal number. */
  readonly least: number;
  readonly most: number;
  /** Whether what is beyond the largest becomes that, not infinity. */
  readonly saturates: boolean;
}

const formats: Partial<Record<DType, FloatFormat>> = {
  f16: { bits: 11, least: -14, most: 65_504, saturates: false },
  bf16: { bits: 8, least: -126, most: (2 - 2 ** -7) * 2 ** 127, saturates: false },
  f8e4m3: { bits: 4, least: -6, most: 448, saturates: true },
};

/** f32 values rounded to those of a narrower format. */
function roundFloat(tf: Tf, x: TfTensor, to: DType): TfTensor {
  const f32 = (value: number) => tf.scalar(value, "float32");
  const format = formats[to];
  if (format === undefined) return nearestPower(tf, x);
  const { bits, least, most, saturates } = format;
  const large = tf.greater(tf.abs(x), f32(2 ** 64));
  const wide = most > 2 ** 64;
  // Large numbers are scaled down, as what is added would overflow; below, everything is exact but the one rounding.
  const scaled = wide
    ? tf.where(large, tf.mul(x, f32(2 ** -64)), x)
    : tf.minimum(tf.maximum(x, f32(-(2 ** 40))), f32(2 ** 40));
  const unit = tf.maximum(powerBelow(tf, tf.abs(scaled)), f32(2 ** least));
  const added = tf.mul(unit, f32(1.5 * 2 ** (24 - bits)));
  const rounded = tf.sub(tf.add(scaled, added), added);
  const back = wide ? tf.where(large, tf.mul(rounded, f32(2 ** 64)), rounded) : rounded;
  if (saturates) return tf.minimum(tf.maximum(back, f32(-most)), f32(most));
  const beyond = tf.greater(tf.abs(back), f32(most));
  const infinite = tf.where(tf.less(x, f32(0)), f32(Number.NEGATIVE_INFINITY), f32(Number.POSITIVE_INFINITY));
  const limited = tf.where(beyond, infinite, back);
  return wide ? tf.where(tf.equal(tf.abs(x), f32(Number.POSITIVE_INFINITY)), x, limited) : limited;
}

/**
 * The largest power of two not above a number of 0 .. 2^64: splitting with 2^23 + 1 leaves the leading bit, rounded
 * (Dekker 1971), so one step down where it was rounded up.
 */
function powerBelow(tf: Tf, x: TfTensor): TfTensor {
  const split = tf.mul(x, tf.scalar(2 ** 23 + 1, "float32"));
  const top = tf.sub(split, tf.sub(split, x));
  return tf.where(tf.greater(top, x), tf.mul(top, tf.scalar(0.5, "float32")), top);
}

/** f8e8m0: the nearest power of two on the scale of exponents. */
function nearestPower(tf: Tf, x: TfTensor): TfTensor {
  const f32 = (value: number) => tf.scalar(value, "float32");
  const inside = tf.minimum(tf.maximum(x, f32(2 ** -126)), f32(2 ** 127));
  const scaled = tf.where(tf.greater(inside, f32(1)), tf.mul(inside, f32(2 ** -64)), inside);
  const below = powerBelow(tf, scaled);
  const power = tf.where(tf.greaterEqual(scaled, tf.mul(below, f32(Math.SQRT2))), tf.mul(below, f32(2)), below);
  const back = tf.where(tf.greater(inside, f32(1)), tf.mul(power, f32(2 ** 64)), power);
  return tf.where(tf.equal(x, x), back, x);
}
