/** Codes, scales and minimums of weights: the same bits from the interpreter, plain JavaScript and WebAssembly. */
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { compileToPlan, type Device, openDevice } from "../src/compile.ts";
import { evaluateFold, FoldPrograms, foldKey } from "../src/fold.ts";
import { type Maths, maths } from "../src/ir/build.ts";
import { Builder, makeModule, type Node } from "../src/ir/graph.ts";
import { interpret } from "../src/ir/interpret.ts";
import { type Tensor, tensorFrom, tensorOf } from "../src/ir/tensor.ts";
import { type DType, sizeOf } from "../src/ir/types.ts";
import { WeightStore } from "../src/runtime/weights/weight-store.ts";
import { same } from "./arb/compare.ts";

interface Format {
  readonly to: "i8" | "i4" | "u4";
  readonly method: "range" | "mse";
}

const formats: readonly Format[] = [
  { to: "i8", method: "range" },
  { to: "i4", method: "range" },
  { to: "i4", method: "mse" },
  { to: "u4", method: "range" },
  { to: "u4", method: "mse" },
];

/** Scales, minimums where there are some, and codes. */
function quantized(m: Maths, w: Node, group: number, { to, method }: Format): Node[] {
  const attrs = { group, to, method };
  const params = [m.groupScales(w, attrs), ...(to === "u4" ? [m.groupMinimums(w, attrs)] : [])];
  return [...params, m.quantizeGroups(w, params, to, group)];
}

const devices: Readonly<Record<string, Device>> = {
  "one thread": openDevice("wasm"),
  "two threads": openDevice("wasm", { threads: 2 }),
  "no relaxed SIMD": openDevice("wasm", { tier: "simd" }),
};
afterAll(() => Promise.all(Object.values(devices).map((device) => device.close())));

async function compareAll(weight: Tensor, group: number, format: Format): Promise<void> {
  const m = maths(new Builder());
  const { dtype, shape } = weight.type;
  const outs = quantized(m, m.builder.weight("w", dtype, shape), group, format);
  const source = () => weight;
  const module = makeModule("codes", [{ name: "main", params: [], outs }], "main");
  const expected = interpret(module, [], { weights: source });
  const typed = (values: readonly Tensor["data"][]) => values.map((data, i) => tensorFrom(outs[i]!.type, data));
  same(typed(evaluateFold(outs, source, new FoldPrograms(openDevice("js"), 0))), expected);
  for (const device of Object.values(devices)) {
    const store = new WeightStore(async () => weight, device, { blockElements: 64, smallFold: 0 });
    const { plan } = compileToPlan(module, device.target);
    const { weights } = plan.funcs.get("main")!;
    await store.load(plan);
    const at = (out: Node) => weights.findIndex((expr) => foldKey(expr) === foldKey(out));
    same(typed(outs.map((out) => store.lookup(plan)("main", at(out), null))), expected);
  }
}

/** Magnitudes of weights, equal ones, and what breaks careless arithmetic. */
const element = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -400, max: 400 }).map((x) => x / 8192) },
  { weight: 2, arbitrary: fc.constantFrom(0, -0, 1, -1, 2 ** -20, -(2 ** -24), 3e-8) },
  { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Infinity, -Infinity, 70000, -65504, 3e38, 2 ** -149) },
);

describe.each(formats)("$to by $method", (format) => {
  test("random groups, whole and cut", async () => {
    const cases = fc.record({
      dtype: fc.constantFrom<DType>("bf16", "f32", "f16", "f8e4m3"),
      // Lanes and no lanes, a group longer than what is kept in registers, rows that end in the middle of a group.
      shape: fc.constantFrom([4, 64, 32], [3, 32, 32], [2, 40, 32], [4, 12, 4], [3, 7, 5], [2, 128, 128], [1, 5, 8]),
      seed: fc.array(element, { minLength: 256, maxLength: 256 }),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ dtype, shape: [rows, length, group], seed }) => {
        const size = sizeOf([rows!, length!]);
        const values = Array.from({ length: size }, (_, i) => seed[i % seed.length]!);
        await compareAll(tensorOf(dtype, [rows!, length!], values), group!, format);
      }),
      { numRuns: 12 },
    );
  });

  test("of opposite elements of equal size the first decides", async () => {
    const values = Array.from({ length: 64 }, (_, i) => (i === 5 || i === 40 ? -1 : i === 9 || i === 35 ? 1 : i / 100));
    await compareAll(tensorOf("bf16", [1, 64], values), 32, format);
  });
});

test("packed codes and their scales are made of one reading of a weight", async () => {
  const m = maths(new Builder());
  const reads: string[] = [];
  const weight = tensorOf(
    "bf16",
    [8, 64],
    Array.from({ length: 512 }, (_, i) => Math.sin(i)),
  );
  const outs = quantized(m, m.builder.weight("w", "bf16", [8, 64]), 32, { to: "i4", method: "mse" });
  const module = makeModule("codes", [{ name: "main", params: [], outs }], "main");
  const { plan } = compileToPlan(module, devices["one thread"]!.target);
  const store = new WeightStore(
    async (name, { from, to }) => {
      reads.push(`${name} ${from}:${to}`);
      return weight;
    },
    devices["one thread"]!,
    { blockElements: 256 },
  );
  await store.load(plan);
  expect(reads).toEqual(["w 0:256", "w 256:512"]);
});
