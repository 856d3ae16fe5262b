/** The functions without an instruction against JavaScript's Math, over wide ranges and at the edges. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkModule } from "../../../src/backends/wasm/check.ts";
import { encodeModule } from "../../../src/backends/wasm/encode.ts";
import { Locals } from "../../../src/backends/wasm/frame.ts";
import { get, laneOf, plain, type WasmFunc } from "../../../src/backends/wasm/instr.ts";
import { library, libraryGlobals } from "../../../src/backends/wasm/library.ts";
import { exp4, sigmoid4 } from "../../../src/backends/wasm/math-vector.ts";
import { rulesFor } from "../../../src/backends/wasm/probe.ts";
import { f32ToBf16, f32ToF8e4m3, f32ToF16 } from "../../../src/ir/half.ts";
import { tensorOf } from "../../../src/ir/tensor.ts";
import { ulpDistance } from "../../arb/compare.ts";

/** Four lanes of one value, of which lane 2 is taken. */
function lane(name: string, rule: typeof exp4, relaxed: boolean): WasmFunc {
  const params = [{ name: "x", type: "f32" }] as const;
  const locals = new Locals(["x"]);
  const code = rule(locals.temp, relaxed);
  const body = [get("x"), plain("f32x4.splat"), ...code, laneOf("f32x4.extract_lane", 2)];
  return { name, params, results: ["f32"], locals: locals.made, exported: true, body };
}
const tiers = rulesFor().tier === "relaxed" ? [false, true] : [false];
const tierName = (relaxed: boolean) => (relaxed ? "relaxed" : "simd");
const module = {
  memory: { initial: 1, maximum: 1, shared: true },
  globals: libraryGlobals,
  funcs: [
    ...[...library.values()].map((func) => ({ ...func, exported: func.params.every(({ type }) => type !== "v128") })),
    ...tiers.flatMap((relaxed) => [
      lane(`exp of lanes, ${tierName(relaxed)}`, exp4, relaxed),
      lane(`sigmoid of lanes, ${tierName(relaxed)}`, sigmoid4, relaxed),
    ]),
  ],
};
checkModule(module);
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const wasm = new WebAssembly.Instance(new WebAssembly.Module(encodeModule(module)), { env: { memory } })
  .exports as Record<string, (...args: number[]) => number>;

/** Distance in units in the last place of a double, counted through the bits. */
function ulps64(a: number, b: number): number {
  if (Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b))) return 0;
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.POSITIVE_INFINITY;
  const rank = (x: number) => {
    const bits = new BigInt64Array(Float64Array.of(x).buffer)[0]!;
    return bits < 0n ? -(2n ** 63n) - bits : bits;
  };
  const distance = rank(a) - rank(b);
  return Number(distance < 0n ? -distance : distance);
}

const edges = [
  0,
  -0,
  1,
  -1,
  2,
  -2,
  0.5,
  3,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  5e-324,
  1e-310,
  2.2250738585072014e-308,
  Number.MAX_VALUE,
  -Number.MAX_VALUE,
  709.78,
  709.79,
  -708,
  -745.13,
  -745.14,
  1e-9,
  -1e-20,
  Math.PI,
  Math.PI / 2,
  1.5707963267948966 * 5e4,
  131071.9,
  131072,
  3.4028234663852886e38,
  6381956970095103 * 2 ** 797,
  0.16999,
  0.17,
  20,
  -20,
];
const near = fc.double({ min: -50, max: 50, noNaN: true });
const wide = fc.double();
const arb = fc.oneof(
  fc.constantFrom(...edges),
  near,
  near.map((x) => x * 1e4),
  wide,
);

const unary: readonly [string, (x: number) => number, number][] = [
  ["exp", Math.exp, 2],
  ["log", Math.log, 2],
  ["sin", Math.sin, 2],
  ["cos", Math.cos, 2],
  ["tanh", Math.tanh, 8],
  ["sigmoid", (x) => 1 / (1 + Math.exp(-x)), 3],
];

describe("scalar functions", () => {
  test.each(unary)("%s is within its error of Math", (name, expected, most) => {
    fc.assert(
      fc.property(arb, (x) => {
        // One more for the error of Math itself.
        const distance = ulps64(wasm[name]!(x), expected(x));
        // A subnormal result is rounded a second time.
        expect(distance, `${name}(${x}) = ${wasm[name]!(x)}, expected ${expected(x)}`).toBeLessThanOrEqual(most + 1);
      }),
      { numRuns: 20000, examples: edges.map((x) => [x]) },
    );
  });

  test("pow is within 2e-13 of JavaScript's, with its special cases", () => {
    const check = (x: number, y: number) => {
      const [actual, expected] = [wasm.pow!(x, y), x ** y];
      if (Object.is(actual, expected) || Math.abs(actual - expected) <= 1e-320) return;
      expect(Math.abs(actual / expected - 1), `${x} ** ${y} = ${actual}, expected ${expected}`).toBeLessThan(2e-13);
    };
    const few = [
      0,
      -0,
      1,
      -1,
      2,
      -2,
      3,
      -3,
      0.5,
      -0.5,
      1.5,
      -1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      2 ** 53,
      1e300,
    ];
    for (const x of few) for (const y of few) check(x, y);
    fc.assert(
      fc.property(
        fc.double({ min: -1e3, max: 1e3, noNaN: true }),
        fc.double({ min: -90, max: 90, noNaN: true }),
        check,
      ),
      { numRuns: 5000 },
    );
  });

  test("the remainder is exact", () => {
    const any = fc.oneof(fc.constantFrom(...edges), near, wide);
    fc.assert(
      fc.property(any, any, (x, y) => {
        expect(wasm.rem!(x, y)).toBe(x % y);
      }),
      { numRuns: 5000 },
    );
  });
});

test.each(
  tiers.flatMap((relaxed) => [
    [`exp of lanes, ${tierName(relaxed)}`, Math.exp, 2] as const,
    [`sigmoid of lanes, ${tierName(relaxed)}`, (x: number) => 1 / (1 + Math.exp(-x)), 3] as const,
  ]),
)("%s, is within its error", (name, expected, most) => {
  fc.assert(
    fc.property(fc.oneof(fc.constantFrom(...edges), near, fc.float({ min: -110, max: 95, noNaN: true })), (value) => {
      const x = Math.fround(value);
      const [actual, want] = [wasm[name]!(x), Math.fround(expected(x))];
      if (Object.is(actual, want)) return;
      expect(ulpDistance(actual, want), `${name}(${x}) = ${actual}, expected ${want}`).toBeLessThanOrEqual(most);
    }),
    { numRuns: 20000, examples: edges.map((x) => [x]) },
  );
});

describe("narrowing to small formats gives the bits of ir/half", () => {
  const floats = fc.oneof(
    fc.constantFrom(...edges),
    near,
    fc.float(),
    fc.nat(65535).map((i) => i / 64),
    fc.nat(9000).map((i) => (i - 4500) / 9.5),
  );
  test.each([
    ["f32_to_f16", f32ToF16],
    ["f32_to_bf16", f32ToBf16],
  ] as const)("%s", (name, expected) => {
    fc.assert(
      fc.property(floats, (x) => {
        expect(wasm[name]!(x) & 0xffff).toBe(expected(x));
      }),
      { numRuns: 20000 },
    );
  });

  test("f64_to_f8e4m3 and f64_to_f8e8m0", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          floats,
          floats.map((x) => x / 1000),
          fc.double(),
        ),
        (x) => {
          expect(wasm.f64_to_f8e4m3!(x)).toBe(f32ToF8e4m3(x));
          expect(wasm.f64_to_f8e8m0!(x)).toBe(tensorOf("f8e8m0", [1], [x]).data[0]);
        },
      ),
      { numRuns: 20000 },
    );
  });
});
