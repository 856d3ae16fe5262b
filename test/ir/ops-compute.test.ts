/** Ops that compute, on small tensors with results worked out by hand. */
import { describe, expect, test } from "vitest";
import { opDef, opKind, ops } from "../../src/ir/ops/all.ts";
import { scalarOps } from "../../src/ir/scalar.ts";
import { type Tensor, tensorFrom, tensorOf } from "../../src/ir/tensor.ts";
import { tensorType } from "../../src/ir/types.ts";
import { same } from "../arb/compare.ts";
import { apply, f32, i32, nodeOf, t } from "./apply.ts";

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const x23 = f32([
  [1, 2, 3],
  [4, 5, 6],
]);

/** Expects one result, element by element. */
const gives = (actual: Tensor, expected: Tensor) => same([actual], [expected]);

describe("reductions", () => {
  test("reduceSum adds in double and rounds once", () => {
    gives(apply("reduceSum", {}, x23), f32([6, 15]));
    // In f32 each 1 would be lost beside 2^24.
    gives(apply("reduceSum", {}, f32([16777216, 1, 1, 1, 1])), f32(16777220));
    gives(apply("reduceSum", {}, tensorOf("f32", [2, 0], [])), f32([0, 0]));
  });
  test("reduceMax", () => {
    gives(
      apply(
        "reduceMax",
        {},
        f32([
          [1, 3, 2],
          [nan, 1, inf],
        ]),
      ),
      f32([3, nan]),
    );
    gives(apply("reduceMax", {}, tensorOf("f32", [2, 0], [])), f32([-inf, -inf]));
    expect(() => nodeOf("reduceMax", {}, f32(1))).toThrow("reduceMax: expected f32 of rank 1 or more, got (f32[])");
  });
  test("argMax takes the lowest of equals and never NaN", () => {
    gives(
      apply(
        "argMax",
        {},
        f32([
          [1, 3, 3],
          [nan, -1, nan],
          [0, -0, -1],
        ]),
      ),
      i32([1, 1, 0]),
    );
    gives(apply("argMax", {}, f32([nan, nan])), i32(0));
    gives(apply("argMax", {}, f32([nan, -inf])), i32(0));
  });
  test("topKValues and topKIndices", () => {
    const x = f32([
      [1, 5, 5, 2],
      [nan, 0, inf, -1],
    ]);
    gives(
      apply("topKIndices", { k: 3 }, x),
      i32([
        [1, 2, 3],
        [2, 1, 3],
      ]),
    );
    gives(
      apply("topKValues", { k: 3 }, x),
      f32([
        [5, 5, 2],
        [inf, 0, -1],
      ]),
    );
    gives(
      apply("topKIndices", { k: 4 }, x),
      i32([
        [1, 2, 3, 0],
        [2, 1, 3, 0],
      ]),
    );
    for (const k of [0, 5]) expect(() => nodeOf("topKValues", { k }, x)).toThrow(`at least k = ${k}`);
  });
});

describe("cast", () => {
  const casts: [from: Tensor, to: Tensor][] = [
    [f32([1.5, -1.5, 2.99, nan, inf, -inf, 3e9]), i32([1, -1, 2, 0, 2147483647, -2147483648, 2147483647])],
    [f32([-1, 255.9, 300, nan]), t("u8", [0, 255, 255, 0])],
    [f32([-9, 7.5, -0.5]), t("i4", [-8, 7, 0])],
    [f32([-1, 15.5, 16]), t("u4", [0, 15, 15])],
    [f32([0, -0, 0.5, nan, 2]), t("bool", [0, 0, 1, 1, 1])],
    [t("bool", [0, 1]), f32([0, 1])],
    [i32([16777217, -5]), f32([16777216, -5])],
    [i32([-1, 5]), t("u32", [0, 5])],
    [t("u32", [4294967295]), i32([2147483647])],
    [t("i4", [-8, 7, -1]), i32([-8, 7, -1])],
    [f32([3, 0.25, 0]), t("f8e8m0", [4, 0.25, 2 ** -127])],
  ];
  test.each(casts)("%#", (from, to) => gives(apply("cast", { dtype: to.type.dtype }, from), to));
  test("to f16, bf16 and f8e4m3 by bits", () => {
    const x = f32([1, -2, 65520, 1 + 2 ** -11]);
    const bits = (dtype: "f16" | "bf16" | "f8e4m3") => [...apply("cast", { dtype }, x).data];
    expect(bits("f16")).toEqual([0x3c00, 0xc000, 0x7c00, 0x3c00]);
    expect(bits("bf16")).toEqual([0x3f80, 0xc000, 0x4780, 0x3f80]);
    expect(bits("f8e4m3")).toEqual([0x38, 0xc0, 0x7e, 0x38]);
  });
});

describe("elementwise", () => {
  test("every scalar op has its op, of its arity", () => {
    for (const [name, { arity }] of Object.entries(scalarOps)) {
      // Scalar ops are ops by construction.
      const def = opDef(name as keyof typeof scalarOps);
      expect([def.kind, def.arity, def.scalar]).toEqual(["elementwise", arity, name]);
    }
  });
  test("types", () => {
    gives(apply("add", {}, i32([2147483647]), i32([1])), i32([-2147483648]));
    gives(apply("lt", {}, f32([1, nan]), f32([2, 1])), t("bool", [1, 0]));
    gives(apply("select", {}, t("bool", [1, 0]), i32([1, 2]), i32([3, 4])), i32([1, 4]));
    const message = "add: expected 2 operand(s) of one shape and one dtype of f32, i32, u32, got (f32[1], i32[1])";
    expect(() => nodeOf("add", {}, f32([1]), i32([1]))).toThrow(message);
    expect(() => nodeOf("add", {}, f32([1]), f32([[1]]))).toThrow("of one shape");
    expect(() => nodeOf("exp", {}, t("f16", [1]))).toThrow("of f32, got (f16[1])");
    expect(() => nodeOf("not", {}, f32([1]))).toThrow("of bool");
    expect(() => nodeOf("select", {}, f32([1]), f32([1]), f32([1]))).toThrow(
      "select: expected a bool and two operands",
    );
  });
});

describe("contract", () => {
  const y32 = f32([
    [1, 0],
    [2, 1],
    [0, 3],
  ]);
  test.each([
    [
      "n i, i o -> n o",
      x23,
      y32,
      f32([
        [5, 11],
        [14, 23],
      ]),
    ],
    [
      "n i, o i -> n o",
      x23,
      f32([
        [1, 0, 1],
        [0, 2, 0],
      ]),
      f32([
        [4, 4],
        [10, 10],
      ]),
    ],
    [
      "n i, i o -> o n",
      x23,
      y32,
      f32([
        [5, 14],
        [11, 23],
      ]),
    ],
    ["i, i ->", f32([1, 2, 3]), f32([4, 5, 6]), f32(32)],
    [
      "i, j -> i j",
      f32([1, 2]),
      f32([3, 4]),
      f32([
        [3, 4],
        [6, 8],
      ]),
    ],
    ["b i, b i -> b", x23, x23, f32([14, 77])],
    // Axes of one operand alone are summed as well.
    ["i j, -> i", x23, f32(2), f32([12, 30])],
  ])("%s", (axes, a, b, expected) => gives(apply("contract", { axes }, a, b), expected));

  test("adds in double, of any float dtype", () => {
    gives(apply("contract", { axes: "i, i ->" }, f32([16777216, 1, 1]), f32([1, 1, 1])), f32(16777218));
    gives(apply("contract", { axes: "i, i ->" }, t("bf16", [1.5, -2]), t("f8e4m3", [2, 0.5])), f32(2));
    gives(
      apply("contract", { axes: "a i, i -> a" }, tensorOf("f32", [2, 0], []), tensorOf("f32", [0], [])),
      f32([0, 0]),
    );
  });
  test.each([
    ["n i, i o", 'expected the form "a b, b c -> a c"'],
    ["n i, i n n -> n", "an axis repeats within one tensor"],
    ["n i, i o -> z", "result axis z is in no operand"],
    ["n i -> n", "expected 1 operands, got 2"],
    ["n, i o -> n", "operand 0: expected rank 1, got [2,3]"],
    ["n i, n o -> n", "axis n: expected size 2, got 3 in operand 1"],
  ])("error: %s", (axes, message) => expect(() => nodeOf("contract", { axes }, x23, y32)).toThrow(message));
  test("integers are refused", () => {
    expect(() => nodeOf("contract", { axes: "i, i ->" }, i32([1]), i32([1]))).toThrow("float operands");
  });
});

test("dequantizeBlocks, with blocks cut at the edges", () => {
  const x = f32([
    [1, 2, 3],
    [4, 5, 6],
    [7, 8, 9],
  ]);
  const scale = f32([
    [1, 10],
    [100, 1000],
  ]);
  gives(
    apply("dequantizeBlocks", { block: [2, 2] }, x, scale),
    f32([
      [1, 2, 30],
      [4, 5, 60],
      [700, 800, 9000],
    ]),
  );
  gives(
    apply("dequantizeBlocks", { block: [1, 2] }, t("f8e4m3", [[[2, -4]], [[1, 0.5]]]), f32([[[2]], [[4]]])),
    f32([[[4, -8]], [[4, 2]]]),
  );
  for (const block of [[2], [0, 2], [2, 2, 2], [-1, 2]]) {
    expect(() => nodeOf("dequantizeBlocks", { block }, x, scale)).toThrow("dequantizeBlocks: expected");
  }
});

test("every op has a sentence, and an evaluate unless the interpreter runs it", () => {
  for (const name of Object.keys(ops)) {
    const def = opDef(name as keyof typeof ops); // a key of the table
    expect(def.doc, name).toMatch(/\.$/);
    const exchanged = def.across !== undefined || def.transfer !== undefined;
    const own = exchanged || ["param", "weight", "call"].includes(name);
    expect(def.evaluate === undefined, name).toBe(own);
    expect(opKind(name as keyof typeof ops) === "source" ? def.arity : 0).toBe(0);
  }
});

test("tensors check their storage", () => {
  expect(() => tensorOf("f32", [2], [1])).toThrow("tensor f32[2]: expected 2 values, got 1");
  expect(() => tensorFrom(tensorType("f16", [2]), new Float32Array(2))).toThrow("expected Uint16Array of length 2");
  expect(tensorFrom(tensorType("i4", [3]), Uint8Array.of(0x7f, 0x08)).data).toHaveLength(2);
  gives(tensorFrom(tensorType("i4", [3]), Uint8Array.of(0x7f, 0x08)), t("i4", [-1, 7, -8]));
});
