/** Weights that stay in the 16 bits they are stored in: results to the bit those of the same weights in f32, and held as they are. */
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { type CompileOptions, compile, type Device, openDevice } from "../../src/compile.ts";
import { type Maths, maths } from "../../src/ir/build.ts";
import { Builder, type Module, makeModule, type Node } from "../../src/ir/graph.ts";
import { bf16ToF32 } from "../../src/ir/half.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type Tensor, tensorFrom, tensorOf, zeros } from "../../src/ir/tensor.ts";
import { sizeOf, type TensorType, tensorType } from "../../src/ir/types.ts";
import type { WeightSource } from "../../src/ir/weight.ts";
import { randomNumbers, randomTensor, randomWeights } from "../../src/passes/validate.ts";
import { WeightStore } from "../../src/runtime/weights/weight-store.ts";
import { close, same } from "../arb/compare.ts";

type Sizes = { readonly tokens: number; readonly rows: number; readonly inner: number };
type Build = (m: Maths, weight: (name: string, ...shape: number[]) => Node, sizes: Sizes, x: Node, index: Node) => Node;

const product = (m: Maths, x: Node, w: Node) => m.contract("n i, o i -> n o", x, m.cast(w, "f32"));

/** Contractions as models have them; `index` chooses a row of four for each token. */
const forms: Readonly<Record<string, Build>> = {
  matrix: (m, w, { rows, inner }, x) => product(m, x, w("w", rows, inner)),
  siblings: (m, w, { rows, inner }, x) =>
    m.concat(1, m.abs(product(m, x, w("a", rows, inner))), product(m, x, w("b", rows + 1, inner))),
  "a part, lying along the result": (m, w, { rows, inner }, x) => {
    const part = m.slice(w("w", inner + 1, 32 * rows), 0, 1, inner + 1);
    return m.contract("n i, i o -> n o", x, m.cast(part, "f32"));
  },
  "chosen experts": (m, w, { rows, inner }, x, index) =>
    m.contract("n i, n o i -> n o", x, m.cast(m.gather(w("w.{0}", 4, rows, inner), index), "f32")),
  "a tied head": (m, w, { inner }, x, index) => {
    const table = w("w", 8, inner);
    return product(m, m.add(x, m.cast(m.gather(table, index), "f32")), table);
  },
};

function moduleOf(build: Build, sizes: Sizes, dtype: "bf16" | "f16" = "bf16"): Module {
  const builder = new Builder();
  const x = builder.param("x", "f32", [sizes.tokens, sizes.inner]);
  const index = builder.param("index", "i32", [sizes.tokens]);
  const weight = (name: string, ...shape: number[]) => builder.weight(name, dtype, shape);
  const out = build(maths(builder), weight, sizes, x, index);
  return makeModule("m", [{ name: "main", params: [x, index], outs: [out] }], "main");
}

function given(module: Module, seed: number): { inputs: Tensor[]; weights: WeightSource } {
  const random = randomNumbers(seed);
  const inputs = module.funcs.get("main")!.params.map(({ type }) => randomTensor(type, random));
  return { inputs, weights: randomWeights(module, seed) };
}

const dtypesOf = (device: Device, module: Module, options: CompileOptions = {}) =>
  compile(module, device, options)
    .plan.funcs.get("main")!
    .weights.map(({ type }) => type.dtype);

const wide = { quantize: { weights: "f32" } } as const;
const configs = [
  { tier: "relaxed", threads: 1 },
  { tier: "simd", threads: 1 },
  { tier: "relaxed", threads: 2 },
  { tier: "simd", threads: 3 },
] as const;

describe.each(configs)("$tier, $threads threads", (config) => {
  const device = openDevice("wasm", config);
  afterAll(() => device.close());

  test.each(Object.entries(forms))("%s", async (_, build) => {
    const sizes = fc.record({
      tokens: fc.constantFrom(1, 1, 3, 4, 8),
      rows: fc.integer({ min: 1, max: 9 }),
      inner: fc.integer({ min: 1, max: 70 }),
    });
    const property = fc.asyncProperty(sizes, fc.nat(1e6), async (of, seed) => {
      const module = moduleOf(build, of);
      const { inputs, weights } = given(module, seed);
      expect(new Set(dtypesOf(device, module))).toEqual(new Set(["bf16"]));
      const found = await compile(module, device).run(inputs, weights);
      same(found, await compile(module, device, wide).run(inputs, weights));
      // Sums of at most 70 products below 2, in another order.
      close(found, interpret(module, inputs, { weights }), { ulp: 64, absolute: 1e-4 });
    });
    await fc.assert(property, { numRuns: config.threads === 1 ? 20 : 6 });
  });

  test("rows far apart", async () => {
    const module = moduleOf(forms.matrix!, { tokens: 1, rows: 520, inner: 512 });
    const { inputs, weights } = given(module, 1);
    const narrow = compile(module, device);
    const notes = narrow.plan.kernels.flatMap(({ body }) => body).filter((stmt) => stmt.k === "note");
    expect(notes.some(({ text }) => text.includes("far apart"))).toBe(true);
    same(await narrow.run(inputs, weights), await compile(module, device, wide).run(inputs, weights));
  });
});

describe("what is held", () => {
  const wasm = openDevice("wasm", { threads: 1 });
  const js = openDevice("js");
  afterAll(() => wasm.close());
  const module = moduleOf(forms.siblings!, { tokens: 1, rows: 4, inner: 8 });

  test("is f32 where that is asked for, by name too, and where it reads faster", () => {
    expect(dtypesOf(wasm, module)).toEqual(["bf16"]);
    expect(dtypesOf(wasm, module, wide)).toEqual(["f32"]);
    expect(dtypesOf(wasm, module, { quantize: { weights: "none", overrides: { a: "f32" } } })).toEqual(["f32", "bf16"]);
    expect(dtypesOf(wasm, module, { quantize: { weights: "none" } })).toEqual(["bf16"]);
    expect(dtypesOf(wasm, module, { disabledPasses: ["hold-narrow"] })).toEqual(["f32"]);
    // A step would widen every weight into memory.
    expect(dtypesOf(wasm, module, { fuse: false })).toEqual(["f32"]);
    expect(dtypesOf(js, module)).toEqual(["f32"]);
    expect(dtypesOf(wasm, moduleOf(forms.siblings!, { tokens: 1, rows: 4, inner: 8 }, "f16"))).toEqual(["f32"]);
  });

  test("a tied head is the embedding", () => {
    const tied = moduleOf(forms["a tied head"]!, { tokens: 1, rows: 1, inner: 8 });
    expect(dtypesOf(wasm, tied)).toEqual(["bf16"]);
    expect(dtypesOf(wasm, tied, wide)).toEqual(["bf16", "f32"]);
  });

  /** Every bit pattern of bf16, as often as it takes. */
  const bits = ({ shape }: TensorType) => Uint16Array.from({ length: sizeOf(shape) }, (_, i) => i * 40503);

  test.each([
    ["of one weight", "matrix", 1000],
    ["of weights that are merged, by a kernel", "siblings", 200],
    ["of weights that are merged, block by block", "siblings", 2000],
  ] as const)("keeps the bits %s", async (_, form, rows) => {
    const large = moduleOf(forms[form]!, { tokens: 1, rows, inner: 64 });
    const { plan } = compile(large, wasm);
    const [expr] = plan.funcs.get("main")!.weights;
    for (const device of [wasm, js]) {
      const store = new WeightStore(
        async (name) => {
          const type = tensorType("bf16", [name === "b" ? rows + 1 : rows, 64]);
          return tensorFrom(type, bits(type));
        },
        device,
        { blockElements: 1 << 16, smallFold: 64 },
      );
      const held = await store.evaluate(expr!, null);
      const parts = form === "matrix" ? [rows] : [rows, rows + 1];
      const wanted = parts.flatMap((each) => [...bits(tensorType("bf16", [each, 64]))]);
      expect(held.length).toBe(wanted.length);
      expect(held.findIndex((each, i) => each !== wanted[i])).toBe(-1);
    }
  });

  test.each(["wasm", "js"])("NaN, infinities and subnormals are read as what they are, on %s", async (backend) => {
    const target = { narrowWeights: { dtypes: ["bf16"], least: 1 } } as const;
    const opened = backend === "wasm" ? wasm : { ...js, target: { ...js.target, ...target } };
    const patterns = [0x7f80, 0xff80, 0x7f81, 0xffc1, 0x7fff, 0x0001, 0x8001, 0x007f, 0x8000, 0x0080, 0x7f7f, 0x3f80];
    const single = moduleOf((m, w, _, x) => product(m, x, w("w", 12, 1)), { tokens: 1, rows: 12, inner: 1 });
    expect(dtypesOf(opened, single)).toEqual(["bf16"]);
    const weight = { ...zeros("bf16", [12, 1]), data: Uint16Array.from(patterns) };
    const inputs = [tensorOf("f32", [1, 1], [1]), tensorOf("i32", [1], [0])];
    const [found] = await compile(single, opened).run(inputs, () => weight);
    // 0 + 1 * -0 is 0.
    expect([...found!.data]).toEqual(patterns.map((each) => bf16ToF32(each) + 0));
  });
});
