/** Attributes: their one spelling, and the checks against a spec. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Attrs, type AttrValue, checkAttrs, showAttrs, showNumber } from "../../src/ir/attrs.ts";

const arbNumber = fc.oneof(fc.constantFrom(0, -0, 1, -1, Number.NaN, Infinity, -Infinity, 1e21, 1e-7), fc.double());
const arbValue: fc.Arbitrary<AttrValue> = fc.oneof(
  arbNumber,
  fc.constantFrom("", "0", "-0", "NaN", "inf", "true", "[0]", "a, b=1", '"', "\\", "\n"),
  fc.string({ unit: "binary" }),
  fc.boolean(),
  fc.array(arbNumber, { maxLength: 3 }),
);
const arbAttrs: fc.Arbitrary<Attrs> = fc.dictionary(fc.constantFrom("a", "b", "axis", "shape"), arbValue, {
  maxKeys: 3,
});

function equal(a: Attrs, b: Attrs): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => name in b && equalValue(a[name]!, b[name]!));
}

function equalValue(a: AttrValue, b: AttrValue): boolean {
  if (typeof a !== "object" || typeof b !== "object") return Object.is(a, b);
  return a.length === b.length && a.every((x, i) => Object.is(x, b[i]));
}

test("different attributes never print alike, equal ones always do", () => {
  // Half of the pairs differ in one attribute at most, or in the order of the keys alone.
  const near = fc
    .tuple(arbAttrs, fc.constantFrom("a", "b"), fc.option(arbValue, { nil: undefined }))
    .map(([attrs, name, value]): [Attrs, Attrs] => {
      const reversed = Object.fromEntries(Object.entries(attrs).reverse());
      return [attrs, value === undefined ? reversed : { ...reversed, [name]: value }];
    });
  fc.assert(
    fc.property(fc.oneof(near, fc.tuple(arbAttrs, arbAttrs)), ([a, b]) => {
      expect(showAttrs(a) === showAttrs(b)).toBe(equal(a, b));
    }),
    { numRuns: 5000 },
  );
});

test("numbers read back as themselves", () => {
  const words: Record<string, number> = { inf: Infinity, "-inf": -Infinity };
  fc.assert(fc.property(arbNumber, (x) => Object.is(words[showNumber(x)] ?? Number(showNumber(x)), x)));
});

test("spelling", () => {
  expect(showAttrs({})).toBe("");
  expect(showAttrs({ name: 'w"', axis: -0, shape: [1, 2], on: true, eps: 1e-6, none: [] })).toBe(
    '{axis=-0, eps=0.000001, name="w\\"", none=[], on=true, shape=[1, 2]}',
  );
});

const spec = { axis: "int", eps: "number", name: "string?", on: "bool?", dims: "ints?", dtype: "dtype?" } as const;

test.each<[string, Record<string, unknown>]>([
  ["attribute axis is missing: expected int", { eps: 1 }],
  ["attribute axis: expected int, got 0.5", { axis: 0.5, eps: 1 }],
  ["attribute axis: expected int, got 0", { axis: -0, eps: 1 }],
  ['attribute eps: expected number, got "1"', { axis: 1, eps: "1" }],
  ["attribute name: expected string, got undefined", { axis: 1, eps: 1, name: undefined }],
  ["attribute on: expected bool, got 1", { axis: 1, eps: 1, on: 1 }],
  ["attribute dims: expected ints, got [1,null]", { axis: 1, eps: 1, dims: [1, Number.NaN] }],
  ['attribute dtype: expected dtype, got "f64"', { axis: 1, eps: 1, dtype: "f64" }],
  ["unknown attribute size\nAttributes of op: axis, eps, name, on, dims, dtype.", { axis: 1, eps: 1, size: 2 }],
  ["unknown attribute constructor", { axis: 1, eps: 1, constructor: 2 }],
])("%s", (message, attrs) => {
  // Wrong kinds do not type-check, which is why they are checked at run time as well.
  expect(() => checkAttrs("op", spec, attrs as Attrs)).toThrow(`op: ${message}`);
});

test("what a spec allows", () => {
  checkAttrs("op", spec, { axis: -1, eps: Number.NaN });
  checkAttrs("op", spec, { axis: 2 ** 40, eps: -0, name: "", on: false, dims: [], dtype: "i4" });
});
