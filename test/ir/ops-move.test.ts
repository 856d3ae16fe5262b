/** Ops that make, move and index elements, on small tensors with results worked out by hand. */
import { describe, expect, test } from "vitest";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import { same } from "../arb/compare.ts";
import { apply, f32, i32, nodeOf, t } from "./apply.ts";

const nan = Number.NaN;
const x23 = f32([
  [1, 2, 3],
  [4, 5, 6],
]);

/** Expects one result, element by element. */
const gives = (actual: Tensor, expected: Tensor) => same([actual], [expected]);

describe("sources", () => {
  test("full", () => {
    gives(apply("full", { dtype: "f32", shape: [2, 1], value: -0 }), f32([[-0], [-0]]));
    gives(apply("full", { dtype: "i4", shape: [3], value: 9 }), t("i4", [7, 7, 7]));
    gives(apply("full", { dtype: "bool", shape: [], value: nan }), t("bool", 1));
  });
  test("iota", () => {
    gives(
      apply("iota", { dtype: "i32", shape: [2, 3], axis: 0 }),
      i32([
        [0, 0, 0],
        [1, 1, 1],
      ]),
    );
    gives(
      apply("iota", { dtype: "f32", shape: [2, 3], axis: 1 }),
      f32([
        [0, 1, 2],
        [0, 1, 2],
      ]),
    );
    expect(() => nodeOf("iota", { dtype: "i32", shape: [2], axis: 1 })).toThrow("iota: axis 1 is outside rank 1");
  });
});

describe("shapes", () => {
  test("reshape", () => {
    gives(
      apply("reshape", { shape: [3, 2] }, x23),
      f32([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    );
    gives(apply("reshape", { shape: [3] }, t("u4", [[1], [2], [3]])), t("u4", [1, 2, 3]));
  });
  test("transpose", () => {
    gives(
      apply("transpose", { perm: [1, 0] }, x23),
      f32([
        [1, 4],
        [2, 5],
        [3, 6],
      ]),
    );
    const x = f32([
      [
        [1, 2],
        [3, 4],
      ],
      [
        [5, 6],
        [7, 8],
      ],
      [
        [9, 10],
        [11, 12],
      ],
    ]);
    // Result axes are the operand's 1, 2, 0.
    gives(
      apply("transpose", { perm: [1, 2, 0] }, x),
      f32([
        [
          [1, 5, 9],
          [2, 6, 10],
        ],
        [
          [3, 7, 11],
          [4, 8, 12],
        ],
      ]),
    );
  });
  test("slice", () => {
    gives(
      apply("slice", { axis: 1, start: 1, stop: 3 }, x23),
      f32([
        [2, 3],
        [5, 6],
      ]),
    );
    gives(apply("slice", { axis: 0, start: 1, stop: 1 }, x23), tensorOf("f32", [0, 3], []));
    for (const [axis, start, stop] of [
      [2, 0, 1],
      [-1, 0, 1],
      [0, -1, 1],
      [0, 2, 1],
      [0, 0, 3],
    ] as const) {
      expect(() => nodeOf("slice", { axis, start, stop }, x23)).toThrow(`slice: expected an axis ${axis} that holds`);
    }
  });
  test("concat", () => {
    gives(apply("concat", { axis: 0 }, f32([1]), f32([2, 3]), f32([4])), f32([1, 2, 3, 4]));
    gives(
      apply(
        "concat",
        { axis: 1 },
        f32([[1], [2]]),
        f32([
          [3, 4],
          [5, 6],
        ]),
      ),
      f32([
        [1, 3, 4],
        [2, 5, 6],
      ]),
    );
    gives(apply("concat", { axis: 0 }, t("i4", [-8, 7, 1]), t("i4", [-1])), t("i4", [-8, 7, 1, -1]));
    for (const axis of [1, -1]) expect(() => nodeOf("concat", { axis }, f32([1]))).toThrow("concat: expected equal");
    expect(() => nodeOf("concat", { axis: 0 }, f32([1]), i32([1]))).toThrow("concat: expected equal");
    expect(() => nodeOf("concat", { axis: 0 }, x23, f32([[1]]))).toThrow("concat: expected equal");
  });
  test("broadcast", () => {
    gives(
      apply("broadcast", { shape: [2, 3] }, f32([[1], [2]])),
      f32([
        [1, 1, 1],
        [2, 2, 2],
      ]),
    );
    gives(
      apply("broadcast", { shape: [2, 2] }, f32([1, 2])),
      f32([
        [1, 2],
        [1, 2],
      ]),
    );
    gives(apply("broadcast", { shape: [0] }, f32(1)), tensorOf("f32", [0], []));
    expect(() => nodeOf("broadcast", { shape: [4] }, f32([1, 2]))).toThrow("broadcast: expected a shape");
    expect(() => nodeOf("broadcast", { shape: [] }, f32([1]))).toThrow("broadcast: expected a shape");
  });
});

describe("indices", () => {
  test("gather clamps to the table", () => {
    gives(
      apply("gather", {}, x23, i32([1, 0, -5, 9])),
      f32([
        [4, 5, 6],
        [1, 2, 3],
        [1, 2, 3],
        [4, 5, 6],
      ]),
    );
    gives(apply("gather", {}, f32([7, 8]), i32([[1], [0]])), f32([[8], [7]]));
    gives(apply("gather", {}, x23, i32(1)), f32([4, 5, 6]));
    expect(() => nodeOf("gather", {}, x23, f32([0]))).toThrow("i32 indices");
    expect(() => nodeOf("gather", {}, tensorOf("f32", [0], []), i32([0]))).toThrow("not empty");
  });
  test("takeAlong clamps to the axis", () => {
    gives(
      apply(
        "takeAlong",
        {},
        x23,
        i32([
          [2, 0],
          [-1, 3],
        ]),
      ),
      f32([
        [3, 1],
        [4, 6],
      ]),
    );
    expect(() => nodeOf("takeAlong", {}, x23, i32([[1], [1], [1]]))).toThrow("takeAlong: expected i32 indices");
  });
  test("updateRows drops rows outside, keeps the last of equal slots", () => {
    const rows = f32([
      [10, 11],
      [20, 21],
      [30, 31],
      [40, 41],
      [50, 51],
    ]);
    const x = f32([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    gives(
      apply("updateRows", {}, x, rows, i32([2, -1, 0, 2, 3])),
      f32([
        [30, 31],
        [3, 4],
        [40, 41],
      ]),
    );
    gives(
      x,
      f32([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    );
    gives(apply("updateRows", {}, f32([1, 2]), f32([9]), i32([1])), f32([1, 9]));
    expect(() => nodeOf("updateRows", {}, x, rows, i32([1]))).toThrow("updateRows: expected x[s, r..]");
  });
});
