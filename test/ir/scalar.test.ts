/** Scalar ops by hand: their meaning is the definition of elementwise ops, so nothing else checks it. */
import { expect, test } from "vitest";
import { evalScalar, nearestEven, type ScalarOp, scalarOps } from "../../src/ir/scalar.ts";
import type { DType } from "../../src/ir/types.ts";

const [inf, nan, low, high] = [Number.POSITIVE_INFINITY, Number.NaN, -2147483648, 2147483647];
const f = Math.fround;

/** Operands and result; numbers that f32 does not hold are rounded by `f`. */
const cases: Record<ScalarOp, [dtype: DType, args: number[], result: number][]> = {
  neg: [
    ["f32", [0], -0],
    ["f32", [-inf], inf],
    ["i32", [low], low],
    ["i32", [0], 0],
    ["u32", [1], 4294967295],
  ],
  abs: [
    ["f32", [-0], 0],
    ["f32", [-2.5], 2.5],
    ["i32", [low], low],
    ["u32", [7], 7],
    ["f32", [nan], nan],
  ],
  exp: [
    ["f32", [0], 1],
    ["f32", [1], f(Math.E)],
    ["f32", [-inf], 0],
    ["f32", [89], inf],
  ],
  log: [
    ["f32", [1], 0],
    ["f32", [0], -inf],
    ["f32", [-1], nan],
    ["f32", [8], f(2.0794415416798357)],
  ],
  sqrt: [
    ["f32", [9], 3],
    ["f32", [-0], -0],
    ["f32", [2], f(Math.SQRT2)],
    ["f32", [-1], nan],
  ],
  rsqrt: [
    ["f32", [4], 0.5],
    ["f32", [0], inf],
    ["f32", [inf], 0],
    ["f32", [2], f(Math.SQRT1_2)],
  ],
  sin: [
    ["f32", [-0], -0],
    ["f32", [1], f(0.8414709848078965)],
    ["f32", [inf], nan],
  ],
  cos: [
    ["f32", [0], 1],
    ["f32", [1], f(0.5403023058681398)],
    ["f32", [-inf], nan],
  ],
  tanh: [
    ["f32", [0], 0],
    ["f32", [inf], 1],
    ["f32", [0.5], f(0.46211715726000974)],
  ],
  sigmoid: [
    ["f32", [0], 0.5],
    ["f32", [-inf], 0],
    ["f32", [2], f(0.8807970779778823)],
  ],
  floor: [
    ["f32", [-0.5], -1],
    ["f32", [-0], -0],
    ["f32", [2.75], 2],
  ],
  round: [
    ["f32", [0.5], 0],
    ["f32", [1.5], 2],
    ["f32", [2.5], 2],
    ["f32", [-0.5], -0],
    ["f32", [-1.5], -2],
    ["f32", [-0.4], -0],
  ],
  not: [
    ["bool", [0], 1],
    ["bool", [1], 0],
  ],
  add: [
    ["f32", [0.1, 0.2], f(0.1 + 0.2)],
    ["f32", [16777216, 1], 16777216],
    ["i32", [high, 1], low],
    ["u32", [4294967295, 2], 1],
    ["f32", [-0, 0], 0],
  ],
  sub: [
    ["f32", [inf, inf], nan],
    ["i32", [low, 1], high],
    ["u32", [0, 1], 4294967295],
    ["f32", [0, 0], 0],
  ],
  mul: [
    ["f32", [-0, 3], -0],
    ["f32", [0, inf], nan],
    ["i32", [65536, 65536], 0],
    ["i32", [high, high], 1],
    ["u32", [4294967295, 4294967295], 1],
    ["i32", [123456789, 987654321], -67153019],
  ],
  div: [
    ["f32", [1, 3], f(1 / 3)],
    ["f32", [1, -0], -inf],
    ["i32", [-7, 2], -3],
    ["i32", [7, 0], 0],
    ["i32", [low, -1], low],
    ["u32", [4294967295, 2], 2147483647],
  ],
  rem: [
    ["f32", [-7.5, 2], -1.5],
    ["f32", [1, 0], nan],
    ["i32", [-7, 2], -1],
    ["i32", [-6, 2], 0],
    ["i32", [7, 0], 0],
    ["u32", [4294967295, 10], 5],
  ],
  pow: [
    ["f32", [2, 10], 1024],
    ["f32", [-8, 1 / 3], nan],
    ["f32", [5, 0], 1],
    ["f32", [0, -1], inf],
  ],
  min: [
    ["f32", [0, -0], -0],
    ["f32", [1, nan], nan],
    ["i32", [-1, 1], -1],
    ["u32", [4294967295, 1], 1],
  ],
  max: [
    ["f32", [-0, 0], 0],
    ["f32", [nan, 1], nan],
    ["i32", [-1, 1], 1],
    ["u32", [4294967295, 1], 4294967295],
  ],
  and: [
    ["bool", [1, 1], 1],
    ["bool", [1, 0], 0],
    ["bool", [0, 0], 0],
  ],
  or: [
    ["bool", [1, 1], 1],
    ["bool", [0, 1], 1],
    ["bool", [0, 0], 0],
  ],
  eq: [
    ["f32", [0, -0], 1],
    ["f32", [nan, nan], 0],
    ["i32", [3, 3], 1],
    ["bool", [0, 1], 0],
  ],
  ne: [
    ["f32", [0, -0], 0],
    ["f32", [nan, nan], 1],
    ["u32", [3, 4], 1],
    ["bool", [1, 1], 0],
  ],
  lt: [
    ["f32", [1, 2], 1],
    ["f32", [nan, 2], 0],
    ["i32", [2, 2], 0],
    ["u32", [1, 4294967295], 1],
  ],
  le: [
    ["f32", [2, 2], 1],
    ["f32", [2, nan], 0],
    ["i32", [-3, 2], 1],
  ],
  gt: [
    ["f32", [inf, 2], 1],
    ["f32", [nan, nan], 0],
    ["i32", [2, 2], 0],
  ],
  ge: [
    ["f32", [-0, 0], 1],
    ["f32", [nan, nan], 0],
    ["i32", [1, 2], 0],
  ],
  select: [
    ["f32", [1, -0, 5], -0],
    ["f32", [0, 1, nan], nan],
    ["i32", [1, low, 0], low],
  ],
};

test.each(Object.entries(cases))("%s", (name, list) => {
  // The keys are those of `cases`, hence scalar ops.
  for (const [dtype, args, result] of list) expect(evalScalar(name as ScalarOp, dtype, args)).toBe(result);
  expect(list.every(([, args]) => args.length === scalarOps[name as ScalarOp].arity)).toBe(true);
});

test("commutative ops are", () => {
  const values = [0, -0, 1, -1, 2.5, nan, inf, -inf];
  for (const [name, def] of Object.entries(scalarOps)) {
    if (!("commutative" in def) || !def.commutative) continue;
    const dtype = def.operands === "bool" ? "bool" : "f32";
    for (const a of values) {
      for (const b of values) {
        const [x, y] = dtype === "bool" ? [Number(a > 0), Number(b > 0)] : [a, b];
        expect(evalScalar(name as ScalarOp, dtype, [x, y])).toBe(evalScalar(name as ScalarOp, dtype, [y, x]));
      }
    }
  }
});

test("nearestEven agrees with rounding by adding 1.5 * 2^52", () => {
  // Doubles of that size are whole numbers, and the addition rounds ties to even.
  const big = 1.5 * 2 ** 52;
  for (let i = -400; i <= 400; i++) {
    const x = i / 8;
    expect(nearestEven(x) + 0).toBe(x + big - big + 0);
    expect(Object.is(nearestEven(x), -0)).toBe(Object.is(x, -0) || (x < 0 && x >= -0.5));
  }
  for (const x of [2 ** 53, -(2 ** 60), inf, 4503599627370495.5])
    expect(nearestEven(x)).toBe(Math.abs(x) === 4503599627370495.5 ? 2 ** 52 : x);
  expect(nearestEven(nan)).toBe(nan);
});

test("round: ties to even at every size, the sign of zero kept", () => {
  const cases: [number, number][] = [
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [-0.5, -0],
    [-0.2, -0],
    [-0, -0],
    [0, 0],
    [-1.5, -2],
    [0.49999999999999994, 0],
    [2 ** 51 + 0.5, 2 ** 51],
    [2 ** 51 + 1.5, 2 ** 51 + 2],
    [-(2 ** 51) - 0.5, -(2 ** 51)],
    [2 ** 51 - 0.5, 2 ** 51],
    [2 ** 52 + 1, 2 ** 52 + 1],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
    [Number.NaN, Number.NaN],
  ];
  for (const [x, rounded] of cases) expect(nearestEven(x), `${x}`).toBe(rounded);
});
