/** config.json: what each family is read as, and the error of every field that can be wrong. */
import { describe, expect, test } from "vitest";
import { CompilerError, InputError, UnsupportedError } from "../../src/ir/errors.ts";
import { parseModelConfig, parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { type Json, published, publishedWith } from "./published-configs.ts";
import { goldenConfigText, goldenNames } from "./read-golden.ts";

describe("families", () => {
  test("llama with grouped heads", () => {
    const config = parseModelConfig(publishedWith("R1-Distill-Llama-8B"));
    expect(config.attention).toEqual({
      kind: "gqa",
      num_attention_heads: 32,
      num_key_value_heads: 8,
      head_dim: 128,
      qkv_bias: false,
      o_bias: false,
      qk_norm: false,
      softmax_scale: 1 / Math.sqrt(128),
    });
    expect(config.rope).toMatchObject({ rope_theta: 500000, dim: 128, layout: "half", attention_factor: 1 });
    expect(config.eos_token_id).toEqual([128001, 128008, 128009]);
    expect(new Set(config.feed_forward)).toEqual(new Set([{ kind: "dense", intermediate_size: 14336 }]));
  });

  test("llama with attention_bias has a bias on all four projections, qwen2 always on three", () => {
    const llama = parseModelConfig(publishedWith("deepseek-llm-7b", { attention_bias: true }));
    expect(llama.attention).toMatchObject({ qkv_bias: true, o_bias: true });
    const qwen2 = parseModelConfig(publishedWith("R1-Distill-Qwen-1.5B"));
    expect(qwen2.attention).toMatchObject({ qkv_bias: true, o_bias: false, qk_norm: false });
  });

  test("qwen3", () => {
    const config = parseModelConfig(publishedWith("R1-0528-Qwen3-8B"));
    expect(config.attention).toMatchObject({ qkv_bias: false, o_bias: false, qk_norm: true });
  });

  test("deepseek: plain attention, softmax mixture after the first layer", () => {
    const config = parseModelConfig(publishedWith("deepseek-moe-16b"));
    expect(config.attention.kind).toBe("gqa");
    expect(config.feed_forward.map((layer) => layer.kind)).toEqual(["dense", ...new Array(27).fill("moe")]);
    expect(config.feed_forward[1]).toMatchObject({ scoring_func: "softmax", topk_method: "greedy", n_group: 1 });
  });

  test("deepseek_v2", () => {
    const lite = parseModelConfig(publishedWith("DeepSeek-V2-Lite"));
    expect(lite.attention).toMatchObject({ kind: "mla", q_lora_rank: null, kv_lora_rank: 512, lora_norm_eps: 1e-6 });
    expect(lite.rope).toMatchObject({ dim: 64, layout: "interleaved" });
    const full = parseModelConfig(publishedWith("DeepSeek-V2"));
    expect(full.feed_forward[1]).toMatchObject({ topk_method: "group_limited_greedy", n_group: 8, topk_group: 3 });
  });

  test("deepseek_v3, with the defaults of its family", () => {
    const explicit = parseModelConfig(publishedWith("DeepSeek-V3"));
    expect(explicit.feed_forward[3]).toMatchObject({ scoring_func: "sigmoid", topk_method: "noaux_tc", n_group: 8 });
    expect(explicit.feed_forward.findIndex((layer) => layer.kind === "moe")).toBe(3);
    expect(explicit.quantization).toEqual({ quant_method: "fp8", fmt: "e4m3", weight_block_size: [128, 128] });
    expect(explicit.num_nextn_predict_layers).toBe(1);
    const names = ["scoring_func", "topk_method", "norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace"];
    const silent = publishedWith("DeepSeek-V3", Object.fromEntries(names.map((name) => [name, undefined])));
    expect(parseModelConfig(silent)).toEqual(explicit);
  });

  test("moe_layer_freq", () => {
    const config = parseModelConfig(publishedWith("DeepSeek-V3", { num_hidden_layers: 8, moe_layer_freq: 2 }));
    const kinds = config.feed_forward.map((layer) => layer.kind[0]);
    expect(kinds.join("")).toBe("ddddmdmd");
  });

  test("a softmax gate that normalises does not scale", () => {
    const config = parseModelConfig(publishedWith("DeepSeek-V2", { norm_topk_prob: true }));
    expect(config.feed_forward[1]).toMatchObject({ norm_topk_prob: true, routed_scaling_factor: 1 });
  });

  test("rope_interleave false", () => {
    expect(parseModelConfig(publishedWith("DeepSeek-V3", { rope_interleave: false })).rope.layout).toBe("half");
  });
});

test.each(Object.keys(published))("%s: newer spelling reads the same", (name) => {
  const { rope_theta, rope_scaling, torch_dtype, ...rest } = published[name]!.config;
  const { type, ...scaling }: Json = { ...(rope_scaling as Json | undefined) }; // an object, by published-configs.ts
  const rope_type = type ?? scaling.rope_type ?? "default";
  const newer = { ...rest, dtype: torch_dtype, rope_parameters: { ...scaling, rope_type, rope_theta } };
  expect(parseModelConfig(newer)).toEqual(parseModelConfig(published[name]!.config));
});

test("the newer spelling wins where both are present", () => {
  const config = parseModelConfig(
    publishedWith("deepseek-llm-7b", {
      rope_parameters: { rope_type: "default", rope_theta: 5 },
      rope_scaling: { type: "x" },
    }),
  );
  expect(config.rope.rope_theta).toBe(5);
});

test.each(goldenNames)("golden %s is frozen all through", (name) => {
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    expect(Object.isFrozen(value)).toBe(true);
    Object.values(value).forEach(visit);
  };
  visit(parseModelConfigText(goldenConfigText(name)));
});

type Row = readonly [base: string, changes: Json, kind: "input" | "unsupported", message: string];
const yarn = { type: "yarn", factor: 40, original_max_position_embeddings: 4096 };
const llama3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
const fp8 = { quant_method: "fp8", weight_block_size: [128, 128] };

const rows: readonly Row[] = [
  [
    "deepseek-llm-7b",
    { model_type: undefined },
    "input",
    "config.json model_type: missing field: expected one of llama",
  ],
  ["deepseek-llm-7b", { model_type: 3 }, "input", "model_type: expected one of llama, qwen2"],
  ["deepseek-llm-7b", { model_type: "llama2" }, "unsupported", 'Did you mean "llama"?'],
  ["DeepSeek-V3", { model_type: "deepseek_v32" }, "unsupported", "nearest supported family is deepseek_v3"],
  ["DeepSeek-V3", { model_type: "deepseek_v4" }, "unsupported", "nearest supported family is deepseek_v3"],
  ["DeepSeek-V3", { model_type: "constructor" }, "unsupported", 'got "constructor"'],
  [
    "deepseek-llm-7b",
    { hidden_size: undefined },
    "input",
    "hidden_size: missing field: expected a whole number in 1..131072, got nothing",
  ],
  ["deepseek-llm-7b", { hidden_size: undefined, hidden_sizes: 4096 }, "input", 'Did you mean "hidden_sizes"?'],
  ["deepseek-llm-7b", { hidden_size: null }, "input", "got null"],
  ["deepseek-llm-7b", { hidden_size: 4096.5 }, "input", "expected a whole number in 1..131072, got 4096.5"],
  ["deepseek-llm-7b", { hidden_size: "4096" }, "input", 'got "4096"'],
  ["deepseek-llm-7b", { hidden_size: 4095 }, "input", "num_attention_heads: expected a divisor of hidden_size 4095"],
  ["deepseek-llm-7b", { hidden_size: 1e9 }, "input", "hidden_size"],
  ["deepseek-llm-7b", { num_hidden_layers: 0 }, "input", "num_hidden_layers"],
  ["deepseek-llm-7b", { num_hidden_layers: 1e6 }, "input", "1..1024"],
  ["deepseek-llm-7b", { vocab_size: 2 ** 30 }, "input", "vocab_size"],
  ["deepseek-llm-7b", { max_position_embeddings: -1 }, "input", "max_position_embeddings"],
  ["deepseek-llm-7b", { intermediate_size: [] }, "input", "intermediate_size"],
  ["deepseek-llm-7b", { num_attention_heads: 0 }, "input", "num_attention_heads"],
  [
    "deepseek-llm-7b",
    { num_key_value_heads: 5 },
    "input",
    "num_key_value_heads: expected a divisor of num_attention_heads 32, got 5",
  ],
  ["deepseek-llm-7b", { num_key_value_heads: 64 }, "input", "num_key_value_heads"],
  ["R1-Distill-Qwen-1.5B", { num_key_value_heads: undefined }, "input", "num_key_value_heads: missing"],
  ["deepseek-llm-7b", { head_dim: 127 }, "input", "head_dim: expected an even number"],
  ["deepseek-llm-7b", { head_dim: 100000 }, "input", "head_dim"],
  ["deepseek-llm-7b", { rms_norm_eps: -1 }, "input", "rms_norm_eps"],
  ["deepseek-llm-7b", { rms_norm_eps: true }, "input", "rms_norm_eps"],
  ["deepseek-llm-7b", { tie_word_embeddings: 1 }, "input", "tie_word_embeddings: expected true or false, got 1"],
  ["deepseek-llm-7b", { hidden_act: "gelu" }, "unsupported", 'hidden_act: not supported: expected "silu", got "gelu"'],
  ["deepseek-llm-7b", { mlp_bias: true }, "unsupported", "mlp_bias"],
  ["deepseek-llm-7b", { torch_dtype: "float8" }, "unsupported", "torch_dtype"],
  ["deepseek-llm-7b", { dtype: 16 }, "input", "dtype"],
  ["deepseek-llm-7b", { bos_token_id: 102400 }, "input", "bos_token_id"],
  ["deepseek-llm-7b", { eos_token_id: [1, -1] }, "input", "eos_token_id"],
  ["deepseek-llm-7b", { eos_token_id: new Array(65).fill(1) }, "input", "at most 64"],
  ["R1-Distill-Qwen-1.5B", { use_sliding_window: true }, "unsupported", "use_sliding_window"],
  ["R1-Distill-Qwen-1.5B", { layer_types: ["full_attention"] }, "input", "layer_types: expected a list of 28"],
  ["R1-Distill-Qwen-1.5B", { layer_types: new Array(28).fill("sliding_attention") }, "unsupported", "layer_types"],
  ["deepseek-llm-7b", { rope_theta: 0 }, "input", "rope_theta"],
  ["deepseek-llm-7b", { rope_theta: "1e4" }, "input", "rope_theta"],
  ["deepseek-llm-7b", { rope_scaling: [] }, "input", "rope_scaling: expected a JSON object, got []"],
  ["deepseek-llm-7b", { rope_scaling: { factor: 4 } }, "input", "rope_scaling rope_type: missing"],
  [
    "deepseek-llm-7b",
    { rope_scaling: { type: "dynamic", factor: 4 } },
    "unsupported",
    "expected one of default, linear, llama3, yarn",
  ],
  ["deepseek-llm-7b", { rope_scaling: { type: "yarm", factor: 4 } }, "unsupported", 'Did you mean "yarn"?'],
  ["deepseek-llm-7b", { rope_scaling: { type: "linear" } }, "input", "factor: missing"],
  ["deepseek-llm-7b", { rope_scaling: { type: "linear", factor: 0.5 } }, "input", "factor"],
  ["deepseek-llm-7b", { rope_parameters: { partial_rotary_factor: 0.5 } }, "unsupported", "partial_rotary_factor"],
  ["R1-Distill-Llama-8B", { rope_scaling: llama3 }, "input", "original_max_position_embeddings: missing"],
  [
    "R1-Distill-Llama-8B",
    { rope_scaling: { ...llama3, high_freq_factor: 1 } },
    "input",
    "high_freq_factor: expected more than",
  ],
  ["DeepSeek-V3", { rope_scaling: { ...yarn, beta_fast: 0.5 } }, "input", "beta_fast: expected at least beta_slow 1"],
  ["DeepSeek-V3", { rope_scaling: { ...yarn, mscale: "1" } }, "input", "mscale"],
  ["DeepSeek-V3", { rope_scaling: { ...yarn, attention_factor: -1 } }, "input", "attention_factor"],
  ["DeepSeek-V3", { rope_scaling: { ...yarn, truncate: "no" } }, "input", "truncate"],
  ["DeepSeek-V3", { kv_lora_rank: undefined }, "input", "kv_lora_rank: missing"],
  ["DeepSeek-V3", { q_lora_rank: 0 }, "input", "q_lora_rank"],
  ["DeepSeek-V3", { qk_nope_head_dim: 1.5 }, "input", "qk_nope_head_dim"],
  ["DeepSeek-V3", { qk_rope_head_dim: 63 }, "input", "qk_rope_head_dim: expected an even number"],
  ["DeepSeek-V3", { qk_head_dim: 128 }, "input", "qk_head_dim: expected 192"],
  ["DeepSeek-V3", { v_head_dim: -128 }, "input", "v_head_dim"],
  ["DeepSeek-V3", { num_key_value_heads: 1 }, "input", "num_key_value_heads: expected num_attention_heads 128"],
  ["DeepSeek-V3", { attention_bias: true }, "unsupported", "attention_bias"],
  ["DeepSeek-V3", { rope_interleave: 1 }, "input", "rope_interleave"],
  ["DeepSeek-V2-Lite", { use_mla: false }, "unsupported", "use_mla"],
  ["DeepSeek-V3", { n_routed_experts: undefined }, "input", "n_routed_experts: missing"],
  ["DeepSeek-V3", { n_routed_experts: 1e5 }, "input", "n_routed_experts"],
  ["DeepSeek-V3", { n_shared_experts: -1 }, "input", "n_shared_experts"],
  ["DeepSeek-V3", { moe_intermediate_size: undefined }, "input", "moe_intermediate_size: missing"],
  ["DeepSeek-V3", { num_experts_per_tok: 257 }, "input", "num_experts_per_tok: expected a whole number in 1..256"],
  ["DeepSeek-V3", { num_experts_per_tok: 129 }, "input", "num_experts_per_tok: expected at most the 128 experts"],
  ["DeepSeek-V3", { n_group: 7 }, "input", "n_group: expected a divisor of n_routed_experts 256"],
  ["DeepSeek-V3", { n_group: undefined }, "input", "n_group: missing"],
  ["DeepSeek-V3", { n_group: 256, topk_group: 8 }, "input", "n_group: expected at most half"],
  ["DeepSeek-V3", { topk_group: 9 }, "input", "topk_group: expected a whole number in 1..8"],
  [
    "DeepSeek-V3",
    { scoring_func: "sqrtsoftplus" },
    "unsupported",
    "scoring_func: not supported: expected one of softmax, sigmoid",
  ],
  [
    "DeepSeek-V3",
    { scoring_func: "softmax" },
    "unsupported",
    "topk_method: not supported: expected softmax with greedy",
  ],
  ["DeepSeek-V3", { scoring_func: "softmax", topk_method: undefined }, "unsupported", "scoring_func: not supported"],
  ["DeepSeek-V3", { topk_method: "gready" }, "unsupported", 'Did you mean "greedy"?'],
  ["DeepSeek-V3", { norm_topk_prob: "true" }, "input", "norm_topk_prob"],
  ["DeepSeek-V3", { routed_scaling_factor: 0 }, "input", "routed_scaling_factor"],
  ["DeepSeek-V3", { first_k_dense_replace: 62 }, "input", "first_k_dense_replace"],
  ["DeepSeek-V3", { moe_layer_freq: 0 }, "input", "moe_layer_freq"],
  ["DeepSeek-V3", { num_nextn_predict_layers: 17 }, "input", "num_nextn_predict_layers"],
  ["DeepSeek-V3", { quantization_config: 8 }, "input", "quantization_config: expected a JSON object, got 8"],
  [
    "DeepSeek-V3",
    { quantization_config: {} },
    "input",
    'quantization_config quant_method: missing field: expected "fp8"',
  ],
  [
    "DeepSeek-V3",
    { quantization_config: { quant_method: "awq" } },
    "unsupported",
    'quant_method: not supported: expected "fp8", got "awq"',
  ],
  ["DeepSeek-V3", { quantization_config: { ...fp8, fmt: "e5m2" } }, "unsupported", 'Did you mean "e4m3"?'],
  [
    "DeepSeek-V3",
    { quantization_config: { ...fp8, weight_block_size: [32, 32] } },
    "unsupported",
    "expected [128,128], got [32,32]",
  ],
  ["DeepSeek-V3", { quantization_config: { ...fp8, weight_block_size: [0.5] } }, "input", "weight_block_size"],
];

test("a field that is there is no misspelling of one that is missing", () => {
  const parse = () =>
    parseModelConfig(publishedWith("deepseek-llm-7b", { hidden_size: undefined, hidden_act: "silu" }));
  expect(parse).toThrow(/hidden_size: missing field: [^?]*$/);
});

test.each(rows)("%s with %j is an %s error", (name, changes, kind, message) => {
  let error: unknown;
  try {
    parseModelConfig(publishedWith(name, changes));
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(kind === "input" ? InputError : UnsupportedError);
  expect(error instanceof CompilerError ? error.message : "").toContain(message);
});

describe("not a config at all", () => {
  test.each([[null], [3], ["text"], [[]], [undefined]])("%j", (value) => {
    expect(() => parseModelConfig(value)).toThrow(InputError);
  });

  test("text that is not JSON, or too long", () => {
    expect(() => parseModelConfigText("{", "here/config.json")).toThrow(/^here\/config.json: not JSON/);
    expect(() => parseModelConfigText(" ".repeat(2 ** 20 + 1))).toThrow(/too long/);
  });
});

test("inherited properties are not fields", () => {
  const inherited: unknown = Object.create(publishedWith("deepseek-llm-7b"));
  expect(() => parseModelConfig(inherited)).toThrow(/model_type: missing/);
  const named = JSON.parse(`{"__proto__": ${JSON.stringify(publishedWith("deepseek-llm-7b"))}}`);
  expect(() => parseModelConfig(named)).toThrow(/model_type: missing/);
});
