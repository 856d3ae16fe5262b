/** Group quantisation: cases by hand, and what must hold of any data. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { codeRange } from "../../src/ir/ops/groups.ts";
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { apply, f32, nodeOf, t } from "./apply.ts";

type Codes = "i8" | "i4" | "u4";
const numbers = (tensor: Tensor) => valuesOf(tensor);

function roundTrip(x: Tensor, to: Codes, group: number, method: string) {
  const attrs = { to, group, method };
  const scales = apply("groupScales", attrs, x);
  const params = to === "u4" ? [scales, apply("groupMinimums", attrs, x)] : [scales];
  const codes = apply("quantizeGroups", { dtype: to, group }, x, ...params);
  return { params, codes, values: apply("dequantizeGroups", { group }, codes, ...params) };
}

describe("by hand", () => {
  test("i8: amax / 127, the last group cut", () => {
    const x = f32([[127, -63.5, 0, 254]]);
    const { params, codes, values } = roundTrip(x, "i8", 3, "range");
    expect(numbers(params[0]!)).toEqual([1, 2]);
    expect(numbers(codes)).toEqual([127, -64, 0, 127]); // -63.5 is a tie and goes to the even code
    expect(numbers(values)).toEqual([127, -64, 0, 254]);
  });

  test("i4: the element of largest magnitude is code -8", () => {
    const { params, codes } = roundTrip(
      f32([
        [4, -3.9, 1, 0.25],
        [-4, 3.9, 1.25, 0.75],
      ]),
      "i4",
      4,
      "range",
    );
    expect(numbers(params[0]!)).toEqual([-0.5, 0.5]);
    expect(numbers(codes)).toEqual([-8, 7, -2, 0, -8, 7, 2, 2]);
  });

  test("i4 by least squares: a scale that gives the other elements more steps", () => {
    // One step is 0.5 by range, which is exact for the first alone.
    const x = f32([[4, -3.9, 3.4, -2.9, 2.3]]);
    const error = (method: string) =>
      numbers(roundTrip(x, "i4", 5, method).values).reduce((sum, y, i) => sum + (y - numbers(x)[i]!) ** 2, 0);
    expect(error("mse")).toBeLessThan(0.9 * error("range"));
  });

  test("u4: scale and minimum", () => {
    const { params, codes, values } = roundTrip(f32([[1, 16, 8.25]]), "u4", 32, "range");
    expect(params.map(numbers)).toEqual([[1], [1]]);
    expect(numbers(codes)).toEqual([0, 15, 7]);
    expect(numbers(values)).toEqual([1, 16, 8]);
  });

  test("zeros, NaN and infinities", () => {
    expect(numbers(roundTrip(f32([[0, -0]]), "i4", 2, "mse").values).map(Math.abs)).toEqual([0, 0]);
    const x = f32([[Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1]]);
    const i8 = roundTrip(x, "i8", 4, "range");
    expect(numbers(i8.params[0]!)).toEqual([65504]);
    expect(numbers(i8.codes)).toEqual([0, 127, -127, 0]);
    const u4 = roundTrip(x, "u4", 4, "mse");
    expect(numbers(u4.codes)).toEqual([0, 15, 0, 7]);
    expect(numbers(roundTrip(f32([[Number.NaN, 2]]), "i8", 2, "range").codes)).toEqual([0, 127]);
  });

  test("a scale too small for f16 is 0, and so are the codes", () => {
    const { params, codes } = roundTrip(f32([[1e-9, -1e-9]]), "i8", 2, "range");
    expect(numbers(params[0]!)).toEqual([0]);
    expect(numbers(codes)).toEqual([0, 0]);
  });

  test("operands of other types are refused", () => {
    const x = f32([[1, 2, 3]]);
    const scales = t("f16", [[1, 1]]);
    const attrs = { to: "i4", group: 2, method: "range" } as const;
    expect(() => nodeOf("groupScales", { ...attrs, group: 0 }, x)).toThrow("groupScales: expected");
    expect(() => nodeOf("groupScales", { ...attrs, method: "best" }, x)).toThrow("method range or mse");
    expect(() => nodeOf("groupScales", { ...attrs, to: "i8", method: "mse" }, x)).toThrow("to i4 or u4");
    expect(() => nodeOf("groupMinimums", attrs, x)).toThrow("to u4");
    expect(() => nodeOf("quantizeGroups", { dtype: "u4", group: 2 }, x, scales)).toThrow("scales and minimums");
    expect(() => nodeOf("quantizeGroups", { dtype: "i4", group: 3 }, x, scales)).toThrow("ceil(i/3)");
    expect(() => nodeOf("dequantizeGroups", { group: 2 }, x, scales)).toThrow("codes q");
  });
});

const cases = fc
  .record({
    to: fc.constantFrom<Codes>("i8", "i4", "u4"),
    group: fc.integer({ min: 1, max: 9 }),
    rows: fc.integer({ min: 1, max: 3 }),
    length: fc.integer({ min: 1, max: 12 }),
    size: fc.constantFrom(1e-6, 1, 1000),
    mse: fc.boolean(),
  })
  .chain((given) =>
    fc
      .array(fc.double({ min: -1, max: 1, noNaN: true }), {
        minLength: given.rows * given.length,
        maxLength: given.rows * given.length,
      })
      .map((values) => ({
        ...given,
        method: given.mse && given.to !== "i8" ? "mse" : "range",
        x: tensorOf(
          "f32",
          [given.rows, given.length],
          values.map((v) => v * given.size),
        ),
      })),
  );

describe("of any data", () => {
  /** Scale and minimum of element i. */
  const paramsAt = (params: readonly Tensor[], length: number, group: number, i: number) => {
    const perRow = Math.ceil(length / group);
    const at = Math.floor(i / length) * perRow + Math.floor((i % length) / group);
    return { s: numbers(params[0]!)[at]!, m: params[1] === undefined ? 0 : numbers(params[1])[at]! };
  };

  test("no code is nearer than the one chosen", () => {
    fc.assert(
      fc.property(cases, ({ x, to, group, method, length }) => {
        const { params, values } = roundTrip(x, to, group, method);
        const { low, high } = codeRange(to)!;
        numbers(values).forEach((y, i) => {
          const { s, m } = paramsAt(params, length, group, i);
          const given = numbers(x)[i]!;
          for (let code = low; code <= high; code++) {
            // Two roundings of f32, of the quotient and of the result.
            const slack = 2 ** -22 * (Math.abs(given) + Math.abs(m) + Math.abs(s));
            expect(Math.abs(y - given)).toBeLessThanOrEqual(Math.abs(code * s + m - given) + slack);
          }
        });
      }),
    );
  });

  test("by range, i8 and u4 are off by half a step at most, and what f16 cuts off the ends", () => {
    fc.assert(
      fc.property(cases, ({ x, to, group, length }) => {
        fc.pre(to !== "i4");
        const { params, values } = roundTrip(x, to, group, "range");
        numbers(values).forEach((y, i) => {
          const { s, m } = paramsAt(params, length, group, i);
          // An f16 is off by 2^-11 of itself, or by 2^-25 where it is subnormal; the highest code multiplies that.
          const ends = codeRange(to)!.high * (Math.abs(s) * 2 ** -11 + 2 ** -25) + Math.abs(m) * 2 ** -10 + 2 ** -24;
          expect(Math.abs(y - numbers(x)[i]!)).toBeLessThanOrEqual(Math.abs(s) / 2 + ends);
        });
      }),
    );
  });

  test("quantising what was quantised gives the same codes", () => {
    fc.assert(
      fc.property(cases, ({ x, to, group, method }) => {
        const { params, codes, values } = roundTrip(x, to, group, method);
        fc.pre(to !== "u4"); // adding a minimum rounds, so a code may be lost where the scale is far smaller
        const again = apply("quantizeGroups", { dtype: to, group }, values, ...params);
        const zeroScale = numbers(params[0]!).includes(0);
        if (!zeroScale) expect(numbers(again)).toEqual(numbers(codes));
      }),
    );
  });

  test("mse is never worse than range", () => {
    fc.assert(
      fc.property(cases, ({ x, to, group }) => {
        fc.pre(to !== "i8");
        const error = (method: string) =>
          numbers(roundTrip(x, to, group, method).values).reduce((sum, y, i) => sum + (y - numbers(x)[i]!) ** 2, 0);
        const range = error("range");
        expect(error("mse")).toBeLessThanOrEqual(range * (1 + 1e-6) + 1e-30);
      }),
    );
  });
});
