/** Recipes: the functions equal the options they stand for, keep what a module computes, and choose what fits a device. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allBackendNames, type CompileOptions, compileToPlan as compileModule } from "../src/compile.ts";
import { compile, compileToPlan } from "../src/compile-recipe.ts";
import { maths } from "../src/ir/build.ts";
import { Builder, makeModule } from "../src/ir/graph.ts";
import { interpret } from "../src/ir/interpret.ts";
import { printPlan } from "../src/ir/plan.ts";
import { jsTarget, wasmTarget } from "../src/ir/target.ts";
import { type Tensor, tensorFrom, valuesOf } from "../src/ir/tensor.ts";
import { parseModelConfigText } from "../src/models/deepseek/config.ts";
import { buildModel } from "../src/models/deepseek/model.ts";
import type { DeviceSpec } from "../src/plan/hardware.ts";
import { fuse, optimizeFor, prune, type QuantizeWish, quantize, type RecipeStep } from "../src/recipe.ts";
import { loadModel } from "../src/runtime/load-model.ts";

const folder = "models/tiny-deepseek";
const config = parseModelConfigText(readFileSync(`${folder}/config.json`, "utf8"));
const bucket = { tokens: 1, sequences: 1, blocks: 2, outputs: 1, blockSize: 16, slots: 32, ropeRows: 32 };
const model = buildModel(config, bucket);

const [rows, inner, outer] = [3, 64, 5];
const builder = new Builder();
const m = maths(builder);
const x = builder.param("x", "f32", [rows, inner]);
const layer = m.contract("n i, o i -> n o", m.silu(x), builder.weight("w", "f32", [outer, inner]));
const linear = makeModule("linear", [{ name: "f", params: [x], outs: [m.silu(layer), layer] }], "f");

/** One step as a function without its model, as one with, and as options. */
interface Choice {
  readonly step: RecipeStep;
  readonly apply: RecipeStep;
  readonly options: CompileOptions;
}
const choices: readonly Choice[] = [
  { step: quantize("int8"), apply: (each) => quantize(each, "int8"), options: { quantize: { weights: "int8" } } },
  {
    step: quantize("int4+int8"),
    apply: (each) => quantize(each, "int4+int8"),
    options: { quantize: { weights: "int4", activations: "int8" } },
  },
  { step: fuse(), apply: (each) => fuse(each), options: { fuse: true } },
  { step: fuse(false), apply: (each) => fuse(each, false), options: { fuse: false } },
  { step: optimizeFor("js"), apply: (each) => optimizeFor(each, "js"), options: {} },
];

describe("composed in any order, with the model or as passes", () => {
  it("compile to what the options do", () => {
    const some = fc.array(fc.constantFrom(...choices), { maxLength: 4 });
    fc.assert(
      fc.property(some, fc.boolean(), (chosen, optimize) => {
        const options = { optimize, ...Object.assign({}, ...chosen.map((each) => each.options)) };
        const expected = printPlan(compileModule(linear, wasmTarget, options).plan);
        const passes = chosen.map(({ step }) => step);
        expect(printPlan(compileToPlan(linear, wasmTarget, { optimize, passes }).plan)).toBe(expected);
        const recipe = chosen.reduce((each, { apply }) => apply(each), fuseNothing(linear));
        expect(printPlan(compileToPlan(recipe, wasmTarget, { optimize }).plan)).toBe(expected);
      }),
    );
  });

  it("and so does a whole model", () => {
    const expected = compileModule(model, wasmTarget, { quantize: { weights: "int4" }, fuse: true });
    const found = compileToPlan(optimizeFor(quantize(fuse(model), "int4"), "wasm"));
    expect(printPlan(found.plan)).toBe(printPlan(expected.plan));
    expect(found.target.name).toBe("wasm");
  });

  it("options beside them go before them", () => {
    const found = compileToPlan(quantize(linear, "int4"), jsTarget, { quantize: { weights: "int8" } });
    expect(found.report.quantize).toEqual({ weights: "int8" });
  });
});

/** A recipe without choices. */
function fuseNothing(source: typeof linear) {
  return optimizeFor(source, "wasm");
}

const element = fc.float({ min: -4, max: 4, noNaN: true });
const inputs = fc
  .array(element, { minLength: rows * inner, maxLength: rows * inner })
  .map((values) => Float32Array.from(values));
const weights = fc
  .array(element, { minLength: outer * inner, maxLength: outer * inner })
  .map((values) => Float32Array.from(values));

describe("alone, each keeps what a module computes", () => {
  const run = async (how: RecipeStep, data: Float32Array, w: Float32Array): Promise<[Tensor[], Tensor[]]> => {
    const input = tensorFrom(x.type, data);
    const source = () => tensorFrom({ dtype: "f32", shape: [outer, inner] }, w);
    const compiled = compile(linear, { optimize: false, passes: [optimizeFor("js"), how] });
    return [await compiled.run([input], source), interpret(linear, [input], { weights: source })];
  };
  /** |sum x (w - w')| <= sum |x| |w - w'|, and every result of silu moves by at most 1.1 times that. */
  const check = (
    [found, expected]: [Tensor[], Tensor[]],
    data: Float32Array,
    mostOf: (o: number, i: number) => number,
  ) => {
    const [got, want] = [found[1]!, expected[1]!].map(valuesOf);
    for (let n = 0; n < rows; n++) {
      for (let o = 0; o < outer; o++) {
        let most = 0;
        let size = 0;
        for (let i = 0; i < inner; i++) {
          const value = Math.abs(data[n * inner + i]!);
          most += value * mostOf(o, i);
          size += value * 4;
        }
        // Sums of 64 products in f32: 2^-18 of their magnitudes is above 64 roundings of 2^-24.
        expect(Math.abs(got![n * outer + o]! - want![n * outer + o]!)).toBeLessThanOrEqual(most + size * 2 ** -18);
      }
    }
  };

  it("fuse: up to rounding", async () => {
    await fc.assert(
      fc.asyncProperty(inputs, weights, async (data, w) => {
        check(await run(fuse(), data, w), data, () => 0);
      }),
      { numRuns: 20 },
    );
  });

  /**
   * Codes are the nearest of [-127, 127] or [-8, 7] times a scale of largest / 127 or largest / 8: off by half a scale, or by
   * a whole one where the positive end is cut; scales in f16 add 2^-11 of the code's value, and those below 2^-14 round by 2^-25.
   */
  const bounds: readonly [QuantizeWish, (largest: number) => number][] = [
    ["int8", (largest) => 0.5 * (largest / 127) + largest * 2 ** -10 + 127 * 2 ** -25],
    [{ weights: "int4", method: "range" }, (largest) => largest / 8 + largest * 2 ** -10 + 8 * 2 ** -25],
  ];
  it.each(bounds)("quantize %o: by its scale", async (how, bound) => {
    await fc.assert(
      fc.asyncProperty(inputs, weights, async (data, w) => {
        const largest = (o: number, i: number) => {
          const start = o * inner + i - (i % 32);
          return Math.max(...w.subarray(start, start + 32).map(Math.abs));
        };
        check(await run(quantize(how), data, w), data, (o, i) => bound(largest(o, i)));
      }),
      { numRuns: 20 },
    );
  });
});

describe("optimizeFor a device", () => {
  const device = (megabytes: number): DeviceSpec => {
    return {
      name: "small",
      memory: megabytes * 1e6,
      bandwidth: 1e10,
      flops: 1e12,
      attentionFlops: 1e12,
      processor: true,
    };
  };

  it.each([
    [100, null],
    [15, { weights: "int8" }],
    [8.5, { weights: "int4" }],
  ])("of %d MB takes the most precise weights that fit: %o", (megabytes, expected) => {
    const { report, target } = compileToPlan(optimizeFor(model, device(megabytes)));
    expect(report.quantize).toEqual(expected);
    expect(target.name).toBe("wasm");
  });

  it("or what was chosen by measuring takes that", () => {
    const found = compileToPlan(optimizeFor(linear, { backend: "js", precision: "int8" }));
    expect([found.target.name, found.report.quantize]).toEqual(["js", { weights: "int8" }]);
    const plain = compileToPlan(optimizeFor(linear, { backend: "wasm", precision: "stored" }));
    expect([plain.target.name, plain.report.quantize]).toEqual(["wasm", null]);
    const wide = compileToPlan(optimizeFor(linear, { backend: "wasm", precision: "f32" }));
    expect(wide.report.quantize).toEqual({ weights: "f32" });
  });

  it("leaves what was said about weights, and says where nothing fits", () => {
    const asked = compileToPlan(optimizeFor(quantize(model, "int4-affine"), device(100)));
    expect(asked.report.quantize).toEqual({ weights: "int4-affine" });
    expect(() => compileToPlan(optimizeFor(model, device(1)))).toThrow(
      /optimizeFor: needs .* with weights in int4, .*small/,
    );
  });

  it("knows backends and devices by name", () => {
    for (const name of allBackendNames) expect(compileToPlan(optimizeFor(linear, name)).target.name).toBe(name);
    expect(compileToPlan(optimizeFor(linear, "h100")).target.name).toBe("webgpu");
  });

  // As programs that no compiler has checked may have it.
  it.each<[string, (wrong: never) => unknown, unknown, string]>([
    ["optimizeFor", optimizeFor, "h10", 'optimizeFor: there is no backend or device "h10"\nDid you mean "h100"?'],
    ["optimizeFor", optimizeFor, 3, "optimizeFor: expected the name of a backend or device, or a device, got 3"],
    ["optimizeFor", optimizeFor, {}, "optimizeFor: expected the name of a backend or device, or a device, got {}"],
    ["optimizeFor", optimizeFor, linear, "optimizeFor: expected what to do with the model, got the model alone"],
    ["quantize", quantize, fuse(linear), "quantize: expected what to do with the model, got the model alone"],
    ["quantize", quantize, undefined, 'quantize: expected options such as { weights: "int8" }, got undefined'],
    ["prune", prune, null, 'prune: expected options such as { sparsity: "2:4" }, got null'],
    ["fuse", fuse, 3, "fuse: expected a model, true or false, got 3"],
    ["fuse", (on) => fuse(linear, on), "no", 'fuse: expected a model, true or false, got "no"'],
    ["compile", compile, "folder", 'compile: expected a module, got "folder"\nloadModel compiles'],
  ])("%s refuses what is wrong at once: %#", (_, make, wrong, message) => {
    expect(() => make(wrong as never)).toThrow(message);
  });
});

describe("mistakes", () => {
  it.each([
    [() => quantize("int5"), /quantize weights: expected .*int4/],
    [() => quantize("int4+int8+int8"), /expected WEIGHTS or WEIGHTS\+INPUTS/],
    [() => prune({}), /prune: expected what to leave out/],
    [() => prune({ sparsity: "4:2" }), /prune sparsity: expected N:M such as 2:4/],
    [() => prune({ sparsity: 1 }), /expected a share from 0 to below 1, got 1/],
    [() => prune({ experts: { 1: [3, 2] } }), /prune experts 1: expected numbers of experts, ascending/],
    [() => prune({ experts: { 1: [1], 2: [1, 2] } }), /prune experts 2: expected 1 as in layer 1, got 2/],
    [() => compileToPlan(prune(linear, { experts: { 1: [0] } })), /a model's folder, not a module/],
  ])("%#", (mistake, message) => {
    expect(mistake).toThrow(message);
  });
});

it("loadModel takes recipes, and steps", async () => {
  const ids = [0, 397, 431, 5];
  const logits = async (...args: Parameters<typeof loadModel>) => {
    const loaded = await loadModel(...args);
    const found = await loaded.logits(ids);
    await loaded.close();
    return [found, loaded.lossy] as const;
  };
  const options = { contextLength: 64, threads: 1 };
  const expected = await logits(folder, { ...options, quantize: { weights: "int8" } });
  expect(await logits(quantize(folder, "int8"), options)).toEqual(expected);
  expect(await logits(folder, { ...options, passes: [quantize("int8"), optimizeFor("wasm")] })).toEqual(expected);
  expect(expected[1]).toEqual(["weights rounded to int8"]);
});

it.each([
  ["names", ["quantize"]],
  ["a step alone", quantize("int8")],
  ["a recipe", [quantize(linear, "int8")]],
])("passes that are %s are refused with what they should be", (_, passes) => {
  expect(() => compileToPlan(linear, jsTarget, { passes: passes as never })).toThrow(
    /^passes: expected a list of steps\nSteps are quantize/,
  );
});
