/** Composite ops against formulas written another way. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { close, same } from "../arb/compare.ts";
import { arbTensor } from "../arb/inputs.ts";
import { apply, f32, i32, nodeOf, t } from "./apply.ts";

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const f = Math.fround;
/** Doubles summed in another order, then rounded once: neighbouring f32 at most. */
const rounding = { ulp: 1, absolute: 1e-12 };

test("silu", () => {
  const x = f32([0, -0, 1, -2, nan, -100]);
  const expected = [0, -0, 0.7310585786300049, -2 / (1 + Math.E ** 2), nan, -100 / (1 + Math.exp(100))];
  close([apply("silu", {}, x)], [f32(expected)], rounding);
  expect(() => nodeOf("silu", {}, i32([1]))).toThrow("silu: expected f32, got (i32[1])");
});

describe("softmax", () => {
  test("by hand", () => {
    same(
      [
        apply(
          "softmax",
          {},
          f32([
            [3, 3],
            [-inf, 5],
            [1000, 1000],
          ]),
        ),
      ],
      [
        f32([
          [0.5, 0.5],
          [0, 1],
          [0.5, 0.5],
        ]),
      ],
    );
    close([apply("softmax", {}, f32([0, Math.log(3)]))], [f32([0.25, 0.75])], rounding);
    same(
      [
        apply(
          "softmax",
          {},
          f32([
            [-inf, -inf],
            [nan, 1],
            [inf, 1],
          ]),
        ),
      ],
      [
        f32([
          [nan, nan],
          [nan, nan],
          [nan, nan],
        ]),
      ],
    );
    same([apply("softmax", {}, tensorOf("f32", [2, 0], []))], [tensorOf("f32", [2, 0], [])]);
  });
  test("shifting a row changes nothing, and rows sum to 1", () => {
    fc.assert(
      fc.property(arbTensor({ dtype: "f32", shape: [3] }, true), fc.integer({ min: -50, max: 50 }), (x, shift) => {
        const moved = f32(valuesOf(x).map((value) => value + shift));
        const [a, b] = [apply("softmax", {}, x), apply("softmax", {}, moved)];
        close([b], [a], rounding);
        expect(valuesOf(a).reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 6);
      }),
    );
  });
});

test("rmsNorm", () => {
  // Row (3, 4) has mean square 12.5; with eps 3.5 the scale is 1/4.
  same(
    [
      apply(
        "rmsNorm",
        { eps: 3.5 },
        f32([
          [3, 4],
          [0, 0],
        ]),
        f32([1, 2]),
      ),
    ],
    [
      f32([
        [0.75, 2],
        [0, 0],
      ]),
    ],
  );
  same([apply("rmsNorm", { eps: 0 }, f32([2, 2]), t("bf16", [1, -3]))], [f32([1, -3])]);
  expect(() => nodeOf("rmsNorm", { eps: 1 }, f32(1), f32(1))).toThrow("rmsNorm: expected f32[.., d]");
  expect(() => nodeOf("rmsNorm", { eps: 1 }, f32([1]), f32([1, 2]))).toThrow("rmsNorm: expected f32[.., d]");
});

describe("rope", () => {
  // A quarter turn of the first pair, none of the second: (a, b) becomes (-b, a).
  const [cos, sin] = [f32([[0, 1]]), f32([[1, 0]])];
  test("interleaved pairs are neighbours", () => {
    const x = f32([
      [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
      ],
    ]);
    same(
      [apply("rope", { interleaved: true }, x, cos, sin)],
      [
        f32([
          [
            [-2, 1, 3, 4],
            [-6, 5, 7, 8],
          ],
        ]),
      ],
    );
  });
  test("otherwise pairs are half the width apart", () => {
    same([apply("rope", { interleaved: false }, f32([[[1, 2, 3, 4]]]), cos, sin)], [f32([[[-3, 2, 1, 4]]])]);
  });
  test("each token has its row of the tables", () => {
    const result = apply("rope", { interleaved: true }, f32([[[1, 0]], [[1, 0]]]), f32([[1], [0]]), f32([[0], [1]]));
    same([result], [f32([[[1, 0]], [[0, 1]]])]);
  });
  test("types", () => {
    expect(() => nodeOf("rope", { interleaved: true }, f32([[[1, 2, 3]]]), f32([[1]]), f32([[1]]))).toThrow(
      "rope: expected x f32[n, h, d]",
    );
    expect(() => nodeOf("rope", { interleaved: true }, f32([1, 2]), cos, sin)).toThrow("rope: expected x f32[n, h, d]");
  });
});

describe("attention", () => {
  const k = f32([
    [[[1]], [[2]], [[3]]],
    [[[4]], [[5]], [[6]]],
  ]); // [b=2, s=3, g=1, d=1]
  const v = f32([
    [[[1, 10]], [[2, 20]], [[4, 40]]],
    [[[8, 80]], [[16, 160]], [[32, 320]]],
  ]); // [.., e=2]

  test("scale 0 is the mean of the values up to the token's position, in its own sequence", () => {
    const q = f32([[[1]], [[1]], [[1]], [[1]]]);
    const result = apply("attention", { scale: 0 }, q, k, v, i32([0, 1, 2, -1]), i32([0, 1, 0, 1]));
    same([result], [f32([[[1, 10]], [[12, 120]], [[f(7 / 3), f(70 / 3)]], [[0, 0]]])]);
  });

  test("positions beyond the keys see all of them, sequences outside are clamped", () => {
    const result = apply("attention", { scale: 0 }, f32([[[1]], [[1]]]), k, v, i32([9, 0]), i32([7, -7]));
    same([result], [f32([[[f(56 / 3), f(560 / 3)]], [[1, 10]]])]);
  });

  test("weights are softmax of scaled scores", () => {
    // Scores q k scale = 0 and log 3, so the weights are 1/4 and 3/4.
    const q = f32([[[Math.log(3) * 2]]]);
    const result = apply("attention", { scale: 0.5 }, q, k, v, i32([1]), i32([0]));
    close([result], [f32([[[1 / 4 + (2 * 3) / 4, 10 / 4 + (20 * 3) / 4]]])], { ulp: 4 });
  });

  test("query head j uses key head floor(j g / h)", () => {
    const keys = f32([[[[1], [1]]]]); // [1, 1, g=2, 1]
    const values = f32([[[[3], [7]]]]);
    const q = f32([[[1], [1], [1], [1]]]);
    same([apply("attention", { scale: 1 }, q, keys, values, i32([0]), i32([0]))], [f32([[[3], [3], [7], [7]]])]);
  });

  test("types", () => {
    const fits = [f32([[[1]]]), k, v, i32([0]), i32([0])] as const;
    for (const [i, wrong] of [f32([[[1, 2]]]), f32([[[1]]]), f32([[[[1]]]]), f32([0]), i32([0, 1])].entries()) {
      expect(() => nodeOf("attention", { scale: 1 }, ...fits.with(i, wrong))).toThrow("attention: expected q[n,h,d]");
    }
    expect(() =>
      nodeOf(
        "attention",
        { scale: 1 },
        f32([[[1], [1], [1]]]),
        f32([[[[1], [1]]]]),
        f32([[[[1], [1]]]]),
        i32([0]),
        i32([0]),
      ),
    ).toThrow("attention:");
  });
});
