/** The three comparisons of tensors: `same` for exact passes, `close` for devices' arithmetic, `nmse` for whole models. */
import { showNumber } from "../../src/ir/attrs.ts";
import { bitsFromF32 } from "../../src/ir/half.ts";
import { type Tensor, valuesOf } from "../../src/ir/tensor.ts";
import { isFloat, sameType, showType } from "../../src/ir/types.ts";

export interface Limits {
  /** Largest distance in units in the last place of f32, as in the table of scalar ops. */
  readonly ulp: number;
  /** Difference that is always accepted, for results that cancel. Default 0. */
  readonly absolute?: number;
  /** Skips elements whose expected value is NaN or infinite: devices may assume that there are none. */
  readonly finiteOnly?: boolean;
  /** Takes all numbers below the smallest normal f32 as equal: devices may flush them to zero. */
  readonly flushes?: boolean;
}

/** The smallest normal f32; what is smaller is subnormal. */
export const leastNormal = 2 ** -126;

/** Throws unless all elements are the same by `Object.is`: -0 differs from 0, NaN equals NaN. */
export function same(actual: readonly Tensor[], expected: readonly Tensor[]): void {
  compare(actual, expected, Object.is);
}

/** Throws unless floats are within the limits and all else is equal; -0 equals 0 and NaN equals NaN. */
export function close(actual: readonly Tensor[], expected: readonly Tensor[], limits: Limits): void {
  const { ulp, absolute = 0, finiteOnly = false, flushes = false } = limits;
  compare(actual, expected, (x, y, float) => {
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) return true;
    if (float && finiteOnly && !Number.isFinite(y)) return true;
    if (float && flushes && Math.abs(x) <= leastNormal && Math.abs(y) <= leastNormal) return true;
    return float && (Math.abs(x - y) <= absolute || ulpDistance(x, y) <= ulp);
  });
}

/** The number of f32 values between two numbers; infinite where one is NaN. */
export function ulpDistance(x: number, y: number): number {
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.POSITIVE_INFINITY;
  return Math.abs(rank(x) - rank(y));
}

/** Position of an f32 among all of them, 0 for both zeros. */
function rank(x: number): number {
  const bits = bitsFromF32(x);
  return bits >= 0x80000000 ? 0x80000000 - bits : bits;
}

/** Sum of squared errors over sum of squares; 0 where both are all zeros. */
export function nmse(actual: Tensor, expected: Tensor): number {
  const [x, y] = [valuesOf(actual), valuesOf(expected)];
  let [error, square] = [0, 0];
  for (const [i, value] of y.entries()) {
    error += (x[i]! - value) ** 2;
    square += value ** 2;
  }
  return error === 0 ? 0 : error / square;
}

function compare(
  actual: readonly Tensor[],
  expected: readonly Tensor[],
  equal: (x: number, y: number, float: boolean) => boolean,
): void {
  if (actual.length !== expected.length) throw new Error(`${actual.length} results, expected ${expected.length}`);
  for (const [i, tensor] of expected.entries()) {
    const other = actual[i]!;
    if (!sameType(other.type, tensor.type)) {
      throw new Error(`result ${i} is ${showType(other.type)}, expected ${showType(tensor.type)}`);
    }
    const [xs, ys] = [valuesOf(other), valuesOf(tensor)];
    const bad = ys.findIndex((y, j) => !equal(xs[j]!, y, isFloat(tensor.type.dtype)));
    if (bad < 0) continue;
    const all = xs.length <= 40 ? `\n  ${xs.map(showNumber).join(" ")}\n  ${ys.map(showNumber).join(" ")}` : "";
    const [x, y] = [showNumber(xs[bad]!), showNumber(ys[bad]!)];
    throw new Error(`result ${i} ${showType(tensor.type)}, element ${bad}: ${x}, expected ${y}${all}`);
  }
}
