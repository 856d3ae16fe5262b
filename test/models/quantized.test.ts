/** Quantised models: what they hold, that they still predict, and that calibration gives what static scales need. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import type { QuantizeOptions } from "../../src/compile.ts";
import { type LoadOptions, loadModel } from "../../src/runtime/load-model.ts";
import type { Model } from "../../src/runtime/model.ts";
import { compareWindows } from "../../src/runtime/quality/evaluate.ts";
import { scoreTokens } from "../../src/runtime/quality/score.ts";
import { goldenNames, goldenTensors } from "./read-golden.ts";

const folder = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
const models: Model[] = [];
async function load(options: LoadOptions = {}): Promise<Model> {
  const model = await loadModel(folder, { contextLength: 256, ...options });
  models.push(model);
  return model;
}
afterAll(async () => {
  for (const model of models) await model.close();
});

// The layout of the file is described in its folder's README.
const { windows } = JSON.parse(readFileSync(`${folder}/reference.json`, "utf8")) as {
  windows: { books: readonly (readonly number[])[] };
};
const ids = windows.books[0]!.slice(0, 128);

describe("tiny-deepseek", () => {
  /**
   * Twice what was measured on these 128 tokens; a wrong scale or axis gives more than 1.
   */
  const cases: readonly [QuantizeOptions, number, number][] = [
    [{ weights: "int8", activations: "int8" }, 0.01, 0.6],
    [{ weights: "int4", activations: "int8" }, 0.25, 0.4],
    [{ weights: "int4-affine" }, 0.25, 0.42],
  ];

  it.each(cases)("%o keeps its predictions in a part of the memory", async (quantize, mostKl, share) => {
    const [reference, model] = [await load(), await load({ quantize })];
    const { kl, top1 } = await compareWindows(reference, model, [ids]);
    expect(kl).toBeGreaterThan(0);
    expect(kl).toBeLessThan(mostKl);
    expect(top1).toBeGreaterThan(0.7);
    expect(model.memory.weights).toBeLessThan(share * reference.memory.weights);
  });

  it("answers alike in one step and token by token", async () => {
    const model = await load({ quantize: { weights: "int4", activations: "int8" } });
    const messages = [{ role: "user", content: "What is 27 + 15?" }];
    const { text } = await model.chat(messages, { temperature: 0, maxTokens: 32 }).collect();
    expect(text).toBe("27 + 15 = 42.");
  });

  it("has errors of weights as its formats allow", async () => {
    const model = await load({ quantize: { weights: "int4", overrides: { "*.o_proj": "none" } } });
    const errors = await model.weightErrors();
    const of = (name: string) => errors.filter(({ names }) => names.some((each) => each.includes(name)));
    expect(of("o_proj")).toEqual([]);
    expect(of("mlp.gate.")).toEqual([]);
    expect(of("layers.3.mlp.experts.{0}.down_proj")).toMatchObject([{ codes: "i4", elements: 16 * 256 * 96 }]);
    // Gaussian weights in groups of 32: about 0.08 at 4 bits and 0.005 at 8.
    for (const { codes, error } of errors) {
      expect(error).toBeLessThan(codes === "i4" ? 0.1 : 0.007);
      expect(error).toBeGreaterThan(codes === "i4" ? 0.05 : 0.003);
    }
  });

  it("runs with calibrated input scales, and says so where they are missing", async () => {
    const quantize = { weights: "int8", activations: "int8-static" } as const;
    await expect(load({ quantize })).rejects.toThrow("int8-static");
    const plain = await load();
    const inputScales = await plain.calibrate(quantize, [ids]);
    const { kl } = await compareWindows(plain, await load({ quantize, inputScales }), [ids]);
    expect(kl).toBeLessThan(0.1);
    const { "lm_head.input_scale": one, ...others } = inputScales;
    expect(one).toBeGreaterThan(0);
    await expect(load({ quantize, inputScales: others })).rejects.toThrow("inputScales lm_head.input_scale: missing");
    await expect(load({ quantize, inputScales: { x: -1 } })).rejects.toThrow("inputScales x: expected a number");
  });
});

describe.each(goldenNames.filter((name) => ["v2-lite", "v3-fp8", "qwen2-tied"].includes(name)))("%s", (name) => {
  const path = fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
  const ids = [...goldenTensors(name, "golden").get("input_ids")!.data].slice(0, 24);

  it("reads the same codes absorbed, plain and without optimisation", async () => {
    const quantize: QuantizeOptions = { weights: "int4" };
    const loadGolden = async (options: LoadOptions) => {
      const model = await loadModel(path, { contextLength: 64, quantize, ...options });
      models.push(model);
      return model;
    };
    const model = await loadGolden({});
    const whole = await model.logits(ids);
    const steps = await scoreTokens(model.runner.single(), ids, 1);
    const plain = await (await loadGolden({ compile: { optimize: false } })).logits(ids);
    for (const other of [steps, plain]) {
      // As for unquantised models: f32 in other orders of addition.
      whole.forEach((x, i) => {
        expect(Math.abs(x - other[i]!)).toBeLessThan(1e-4);
      });
    }
  });
});
