/** Packing of quantised contractions: the same values as unpacking and multiplying, by the interpreter and on devices. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compile, compileToPlan } from "../../src/compile.ts";
import { maths } from "../../src/ir/build.ts";
import { Builder, isOp, type Module, makeModule, topoOrder } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { wasmTarget } from "../../src/ir/target.ts";
import { tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { byteSize, sizeOf } from "../../src/ir/types.ts";
import { packDots, packDotsOf } from "../../src/passes/pack-dots.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { keepLargest } from "../../src/passes/prune/sparsity.ts";
import type { QuantizeOptions } from "../../src/passes/quantize/policy.ts";
import { quantize } from "../../src/passes/quantize/quantize.ts";

interface Sizes {
  readonly n: number;
  readonly k: number;
  readonly blocks: number;
  readonly groups: number;
  readonly policy: QuantizeOptions;
  /** Weights of which two of each four stay. */
  readonly pairs?: boolean;
  /** Whether codes are packed row by row. */
  readonly rows?: boolean;
}

/** A layer, experts chosen for each token, and their products summed, as models write them. */
const forms: Record<string, (sizes: Sizes) => Module> = {
  layer: ({ n, blocks, groups }) =>
    built((m, p) =>
      m.contract(
        "n i, o i -> n o",
        p("f32", [n, groups * 32]),
        m.builder.weight("w.weight", "f32", [blocks * 8, groups * 32]),
      ),
    ),
  "chosen experts": ({ n, k, blocks, groups }) =>
    built((m, p) => {
      const table = m.builder.weight("w.weight", "f32", [3, blocks * 8, groups * 32]);
      return m.contract("n i, n k f i -> n k f", p("f32", [n, groups * 32]), m.gather(table, p("i32", [n, k])));
    }),
  "experts summed": ({ n, k, blocks, groups }) =>
    built((m, p) => {
      const table = m.builder.weight("w.weight", "f32", [3, blocks * 8, groups * 32]);
      return m.contract("n k f, n k i f -> n i", p("f32", [n, k, groups * 32]), m.gather(table, p("i32", [n, k])));
    }),
};

type Param = (dtype: "f32" | "i32", shape: readonly number[]) => ReturnType<Builder["param"]>;

function built(body: (m: ReturnType<typeof maths>, p: Param) => ReturnType<Builder["make"]>): Module {
  const builder = new Builder();
  const params: ReturnType<Builder["param"]>[] = [];
  const param: Param = (dtype, shape) => {
    params.push(builder.param(`p${params.length}`, dtype, shape));
    return params.at(-1)!;
  };
  const out = body(maths(builder), param);
  return makeModule("m", [{ name: "main", params, outs: [out] }], "main");
}

/** Numbers that are the same for every run, spread over -1 .. 1. */
const spread = (length: number, seed: number) => Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed) % 1);

describe.each(Object.entries(forms))("%s", (_, form) => {
  const sizes = fc.record({
    n: fc.constantFrom(1, 2, 4, 5),
    k: fc.integer({ min: 1, max: 3 }),
    blocks: fc.integer({ min: 1, max: 3 }),
    groups: fc.integer({ min: 1, max: 3 }),
    pairs: fc.boolean(),
    rows: fc.boolean(),
    policy: fc.constantFrom<QuantizeOptions>(
      { weights: "int4", activations: "int8" },
      { weights: "int4-affine", activations: "int8" },
      { weights: "int8", activations: "int8" },
    ),
  });

  test("packed and not packed agree, interpreted and compiled", async () => {
    const check = async (given: Sizes, seed: number) => {
      const module = form(given);
      const { policy, pairs = false, rows = false } = given;
      const plain = runPasses(module, [quantize(policy)], wasmTarget);
      const pack = pairs ? packDotsOf({ arePairs: () => true }) : packDotsOf({ order: rows ? "rows" : "chunks" });
      const packed = runPasses(plain, [pack], wasmTarget);
      const ops = topoOrder(packed.funcs.get("main")!.outs);
      const dot = ops.find((node) => isOp(node, "dotGroups"));
      expect(dot?.attrs.bits).toBe(policy.weights === "int8" ? (pairs ? 5 : 8) : 4);
      const { params } = module.funcs.get("main")!;
      const inputs = params.map(({ type: { dtype, shape } }) => {
        const length = shape.reduce((a, b) => a * b, 1);
        return tensorOf(
          dtype,
          shape,
          spread(length, seed).map((x) => (dtype === "i32" ? Math.floor((x + 1) * 1.5) : x)),
        );
      });
      const weight = ops.find((node) => isOp(node, "weight"))!.type.shape;
      const source = () => {
        const tensor = tensorOf("f32", weight, spread(sizeOf(weight), seed + 1));
        if (pairs) keepLargest(tensor.data, "f32", weight.at(-1)!, { keep: 1 + (seed % 2), of: 4 });
        return tensor;
      };
      const expected = valuesOf(interpret(plain, inputs, { weights: source })[0]!);
      const results = [
        interpret(packed, inputs, { weights: source })[0]!,
        (await compile(module, "wasm", { quantize: policy, pairs }).run(inputs, source))[0]!,
        (await compile(module, "js", { quantize: policy, pairs }).run(inputs, source))[0]!,
      ];
      // Up to 3 experts x 96 products below 1: the unpacked form rounds each product's factors to f32, the packed one each
      // group, so they differ by up to 288 roundings of 2^-24.
      for (const result of results) {
        for (const [i, x] of valuesOf(result).entries())
          expect(Math.abs(x - expected[i]!)).toBeLessThan(288 * 2 ** -24);
      }
    };
    await fc.assert(fc.asyncProperty(sizes, fc.nat(1000), check), { numRuns: 40 });
  });
});

test("inputs of chosen experts have scales of groups where others have one calibrated scale", () => {
  const policy = { weights: "int8", activations: "int8-static" } as const;
  for (const name of ["chosen experts", "experts summed"]) {
    const module = forms[name]!({ n: 2, k: 2, blocks: 2, groups: 3, policy });
    const packed = runPasses(module, [quantize(policy), packDots], wasmTarget);
    const nodes = topoOrder(packed.funcs.get("main")!.outs);
    expect(nodes.some((node) => isOp(node, "dotGroups"))).toBe(true);
    expect(nodes.flatMap((node) => (isOp(node, "weight") ? [node.attrs.name] : []))).toEqual(["w.weight"]);
  }
});

test("an input with one calibrated scale is packed too", async () => {
  const module = forms.layer!({ n: 2, k: 1, blocks: 2, groups: 3, policy: {} as QuantizeOptions }); // the form has no policy
  const policy = { weights: "int8", activations: "int8-static" } as const;
  const plain = runPasses(module, [quantize(policy)], wasmTarget);
  const packed = runPasses(plain, [packDots], wasmTarget);
  expect(packed.funcs.get("main")!.outs[0]!.op).toBe("dotGroups");
  const inputs = [tensorOf("f32", [2, 96], spread(192, 1))];
  const source = (name: string) =>
    name.endsWith("input_scale") ? tensorOf("f16", [1], [1 / 127]) : tensorOf("f32", [16, 96], spread(1536, 2));
  const expected = valuesOf(interpret(plain, inputs, { weights: source })[0]!);
  for (const run of [
    interpret(packed, inputs, { weights: source }),
    await compile(module, "wasm", { quantize: policy }).run(inputs, source),
  ]) {
    // 96 products below 1, as above.
    for (const [i, x] of valuesOf(run[0]!).entries()) expect(Math.abs(x - expected[i]!)).toBeLessThan(96 * 2 ** -24);
  }
});

test.each([
  [9, 128],
  [4, 64],
  [5, 96],
])("%i groups of codes with a scale for each %i", (groups, group) => {
  const builder = new Builder();
  const m = maths(builder);
  const x = builder.param("x", "i8", [2, groups * 32]);
  const scales = builder.param("s", "f32", [2, Math.ceil((groups * 32) / group)]);
  const w = builder.weight("w", "f32", [4, groups * 32]);
  const ws = m.groupScales(w, { group: 32, to: "i8", method: "range" });
  const codes = m.dequantizeGroups(m.quantizeGroups(w, [ws], "i8", 32), [ws], 32);
  const out = m.contract("n i, o i -> n o", m.dequantizeGroups(x, [scales], group), codes);
  const plain = makeModule("m", [{ name: "main", params: [x, scales], outs: [out] }], "main");
  const packed = runPasses(plain, [packDots], wasmTarget);
  expect(packed.funcs.get("main")!.outs[0]!.op).toBe("dotGroups");
  const length = groups * 64;
  const inputs = [
    tensorOf(
      "i8",
      [2, groups * 32],
      spread(length, 1).map((value) => Math.round(value * 127)),
    ),
    tensorOf("f32", scales.type.shape, spread(2 * scales.type.shape[1]!, 3)),
  ];
  const source = () => tensorOf("f32", [4, groups * 32], spread(4 * groups * 32, 2));
  const [want, got] = [plain, packed].map((each) => valuesOf(interpret(each, inputs, { weights: source })[0]!));
  // Products below 127, each rounded twice in the form that unpacks.
  for (const [i, y] of got!.entries()) expect(Math.abs(y - want![i]!)).toBeLessThan(2 * 127 * length * 2 ** -24);
});

test("what does not divide stays as it is", () => {
  const module = built((m, p) =>
    m.contract("n i, o i -> n o", p("f32", [1, 40]), m.builder.weight("w.weight", "f32", [6, 40])),
  );
  const plain = runPasses(module, [quantize({ weights: "int4", activations: "int8" })], wasmTarget);
  expect(runPasses(plain, [packDots], wasmTarget).funcs.get("main")!.outs[0]!.op).toBe("contract");
});

test("a zero point is one of the codes", () => {
  const builder = new Builder();
  const ins = [
    builder.param("x", "i8", [1, 32]),
    builder.param("x_scale", "f32", [1, 1]),
    builder.param("x_sum", "f32", [1, 1]),
    builder.param("w", "u8", [1, 1, 8, 4, 4]),
    builder.param("w_scale", "f16", [1, 1, 8]),
  ];
  for (const zero of [-1, 16])
    expect(() => builder.make("dotGroups", ins, { bits: 4, zero })).toThrow("a zero point that is a code of 4 bits");
  expect(builder.make("dotGroups", ins, { bits: 4, zero: 15 }).type.shape).toEqual([1, 8]);
});

test("pairs take five bits of a weight where dense codes take eight", () => {
  const module = forms.layer!({ n: 1, k: 1, blocks: 4, groups: 3, policy: {} as QuantizeOptions }); // the form has no policy
  const bytes = (pairs: boolean) => {
    const { plan } = compileToPlan(module, wasmTarget, { quantize: { weights: "int8", activations: "int8" }, pairs });
    return plan.funcs.get(plan.entry)!.weights.reduce((sum, { type }) => sum + byteSize(type), 0);
  };
  const scales = (2 * 32 * 96) / 32;
  expect(bytes(false)).toBe(32 * 96 + scales);
  expect(bytes(true)).toBe((32 * 96 * 5) / 8 + scales);
});

test("weights that sparsity does not reach stay dense", () => {
  const builder = new Builder();
  const x = builder.param("x", "f32", [1, 32]);
  const head = builder.weight("lm_head.weight", "f32", [8, 32]);
  const out = maths(builder).contract("n i, o i -> n o", x, head);
  const module = makeModule("m", [{ name: "main", params: [x], outs: [out] }], "main");
  const { module: compiled } = compileToPlan(module, wasmTarget, {
    quantize: { weights: "int8", activations: "int8" },
    pairs: true,
  });
  const dot = topoOrder(compiled.funcs.get("main")!.outs).find((node) => isOp(node, "dotGroups"));
  expect(dot?.attrs.bits).toBe(8);
});
