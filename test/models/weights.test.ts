/** The weight list against published parameter counts and the golden checkpoints, and the report of what does not fit. */
import { describe, expect, test } from "vitest";
import { InputError } from "../../src/ir/errors.ts";
import { sizeOf, type TensorType, tensorType } from "../../src/ir/types.ts";
import { checkWeights } from "../../src/models/deepseek/check-weights.ts";
import { parseModelConfig, parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { countOf, namesOf, weightSpecs } from "../../src/models/deepseek/weights.ts";
import { published, publishedWith } from "./published-configs.ts";
import { type GoldenName, goldenConfigText, goldenNames, goldenTensors } from "./read-golden.ts";

test.each(Object.keys(published))("%s has the published number of parameters", (name) => {
  const { config, billions } = published[name]!;
  let count = 0;
  for (const spec of weightSpecs(parseModelConfig(config))) {
    count += sizeOf(spec.shape) * countOf(spec);
  }
  // The counts are given to two decimals or more.
  expect(Math.abs(count / 1e9 - billions)).toBeLessThan(0.005);
});

function headersOf(name: GoldenName): Map<string, TensorType> {
  return new Map(Array.from(goldenTensors(name, "model"), ([key, tensor]) => [key, tensor.type]));
}

test.each(goldenNames)("golden %s has exactly the weights asked for", (name) => {
  const config = parseModelConfigText(goldenConfigText(name));
  const headers = headersOf(name);
  expect(checkWeights(config, headers).unexpected).toEqual([]);
  const specs = weightSpecs(config);
  const wanted = specs.flatMap((spec) => Array.from(namesOf(spec)));
  expect(specs.reduce((sum, spec) => sum + countOf(spec), 0)).toBe(wanted.length);
  expect(new Set(wanted).size).toBe(wanted.length);
  const plain = Array.from(headers.keys()).filter((key) => !key.endsWith("_scale_inv"));
  expect(wanted.sort()).toEqual(plain.sort());
});

test("MoE expert weights are described once", () => {
  const spec = weightSpecs(parseModelConfig(publishedWith("DeepSeek-V3"))).find((s) =>
    s.name.includes("{expert}.gate"),
  );
  expect(spec).toMatchObject({
    name: "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight",
    shape: [2048, 7168],
    experts: 256,
    quantized: true,
  });
  expect(spec?.layers).toEqual(Array.from({ length: 58 }, (_, i) => i + 3));
});

describe("checkWeights", () => {
  function problem(name: GoldenName, change: (headers: Map<string, TensorType>) => void): string {
    const headers = headersOf(name);
    change(headers);
    try {
      checkWeights(parseModelConfigText(goldenConfigText(name)), headers);
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      return String(error);
    }
    throw new Error("the change was not noticed");
  }

  test("missing weight, with the nearest name of the same layer", () => {
    const message = problem("v3", (headers) => {
      headers.set(
        "model.layers.1.self_attn.q_a_projs.weight",
        headers.get("model.layers.1.self_attn.q_a_proj.weight")!,
      );
      headers.delete("model.layers.1.self_attn.q_a_proj.weight");
    });
    expect(message).toContain("model.layers.1.self_attn.q_a_proj.weight: missing, expected shape [24,64]");
    expect(message).toContain("did you mean model.layers.1.self_attn.q_a_projs.weight?");
  });

  test("wrong shape", () => {
    const message = problem("llama-coder", (h) => h.set("model.norm.weight", tensorType("f32", [65])));
    expect(message).toContain("model.norm.weight: expected shape [64], got f32[65]");
  });

  test("wrong dtype", () => {
    expect(problem("v3", (h) => h.set("model.norm.weight", tensorType("i32", [64])))).toContain(
      "expected f32, f16 or bf16",
    );
  });

  test("FP8 where the config has none", () => {
    const key = "model.layers.0.self_attn.o_proj.weight";
    expect(problem("v3", (h) => h.set(key, tensorType("f8e4m3", [64, 64])))).toContain("quantization_config");
  });

  test("missing and misshapen scales", () => {
    const key = "model.layers.0.mlp.gate_proj.weight_scale_inv";
    expect(problem("v3-fp8", (h) => h.delete(key))).toContain(`${key}: missing, expected shape [2,2]`);
    expect(problem("v3-fp8", (h) => h.set(key, tensorType("f32", [1, 2])))).toContain(
      "expected f32[2,2], got f32[1,2]",
    );
  });

  test("only the first few are listed", () => {
    const message = problem("v3", (headers) => headers.clear());
    expect(message.split("missing, expected").length - 1).toBe(5);
    expect(message).toMatch(/and \d+ more/);
  });

  test("untied model without a head", () => {
    expect(problem("v3", (h) => h.delete("lm_head.weight"))).toContain("tie_word_embeddings");
  });

  test("known extras are tolerated, others are returned", () => {
    const headers = headersOf("v3"); // 3 layers, num_nextn_predict_layers 1
    headers.set("model.layers.3.eh_proj.weight", tensorType("bf16", [64, 128]));
    headers.set("model.layers.0.self_attn.rotary_emb.inv_freq", tensorType("f32", [4]));
    headers.set("model.layers.5.odd.weight", tensorType("f32", [4]));
    headers.set("score.weight", tensorType("f32", [4]));
    const { unexpected } = checkWeights(parseModelConfigText(goldenConfigText("v3")), headers);
    expect(unexpected).toEqual(["model.layers.5.odd.weight", "score.weight"]);
    const tied = headersOf("qwen2-tied").set("lm_head.weight", tensorType("f16", [160, 64]));
    expect(checkWeights(parseModelConfigText(goldenConfigText("qwen2-tied")), tied).unexpected).toEqual([]);
  });

  test("a huge config against an empty checkpoint is refused at once", () => {
    const config = parseModelConfig(
      publishedWith("DeepSeek-V3", { num_hidden_layers: 1024, n_routed_experts: 4096, n_group: 8 }),
    );
    const start = performance.now();
    expect(() => checkWeights(config, new Map())).toThrow(/1000 or more weights/);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});
