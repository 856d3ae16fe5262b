/** Published configs cut to the fields that matter, and mutations of them, for tests of config, rope and weights. */

export type Json = Record<string, unknown>;

const yarn40 = { type: "yarn", factor: 40, original_max_position_embeddings: 4096, beta_fast: 32, beta_slow: 1 };

// biome-ignore lint/suspicious/noApproximativeNumericConstant: the published number is 0.707, not 1/sqrt(2)
const liteMscale = 0.707;

const llm7b: Json = {
  model_type: "llama",
  vocab_size: 102400,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 30,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  torch_dtype: "bfloat16",
  bos_token_id: 100000,
  eos_token_id: 100001,
};

const v2: Json = {
  model_type: "deepseek_v2",
  vocab_size: 102400,
  hidden_size: 5120,
  intermediate_size: 12288,
  moe_intermediate_size: 1536,
  num_hidden_layers: 60,
  num_attention_heads: 128,
  num_key_value_heads: 128,
  n_shared_experts: 2,
  n_routed_experts: 160,
  num_experts_per_tok: 6,
  routed_scaling_factor: 16,
  q_lora_rank: 1536,
  kv_lora_rank: 512,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
  topk_method: "group_limited_greedy",
  scoring_func: "softmax",
  n_group: 8,
  topk_group: 3,
  norm_topk_prob: false,
  first_k_dense_replace: 1,
  moe_layer_freq: 1,
  max_position_embeddings: 163840,
  rope_scaling: { ...yarn40, mscale: 1, mscale_all_dim: 1 },
};

/** With the parameter counts that were published for them, in units of 10^9 (multi-token prediction not counted). */
export const published: Readonly<Record<string, { readonly config: Json; readonly billions: number }>> = {
  "deepseek-llm-7b": { config: llm7b, billions: 6.91 },
  "deepseek-llm-67b": {
    config: {
      ...llm7b,
      hidden_size: 8192,
      num_hidden_layers: 95,
      num_attention_heads: 64,
      num_key_value_heads: 8,
      intermediate_size: 22016,
    },
    billions: 67.425,
  },
  "deepseek-coder-33b": {
    config: {
      ...llm7b,
      vocab_size: 32256,
      hidden_size: 7168,
      num_hidden_layers: 62,
      num_attention_heads: 56,
      num_key_value_heads: 8,
      intermediate_size: 19200,
      max_position_embeddings: 16384,
      rope_theta: 100000,
      rope_scaling: { type: "linear", factor: 4 },
      bos_token_id: 32013,
      eos_token_id: 32014,
    },
    billions: 33.343,
  },
  "R1-Distill-Qwen-1.5B": {
    config: {
      ...llm7b,
      model_type: "qwen2",
      vocab_size: 151936,
      hidden_size: 1536,
      num_hidden_layers: 28,
      num_attention_heads: 12,
      num_key_value_heads: 2,
      intermediate_size: 8960,
      sliding_window: 4096,
      use_sliding_window: false,
      bos_token_id: 151643,
      eos_token_id: 151643,
    },
    billions: 1.777,
  },
  "R1-Distill-Llama-8B": {
    config: {
      ...llm7b,
      vocab_size: 128256,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      intermediate_size: 14336,
      rope_theta: 500000,
      rope_scaling: {
        rope_type: "llama3",
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
      eos_token_id: [128001, 128008, 128009],
    },
    billions: 8.03,
  },
  "R1-0528-Qwen3-8B": {
    config: {
      ...llm7b,
      model_type: "qwen3",
      vocab_size: 151936,
      head_dim: 128,
      num_hidden_layers: 36,
      num_key_value_heads: 8,
      intermediate_size: 12288,
      rope_theta: 1000000,
      rope_scaling: {
        rope_type: "yarn",
        factor: 4,
        original_max_position_embeddings: 32768,
        attn_factor: 0.8782488562869419,
      },
    },
    billions: 8.19,
  },
  "deepseek-moe-16b": {
    config: {
      ...llm7b,
      model_type: "deepseek",
      hidden_size: 2048,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      intermediate_size: 10944,
      moe_intermediate_size: 1408,
      n_routed_experts: 64,
      n_shared_experts: 2,
      num_experts_per_tok: 6,
      first_k_dense_replace: 1,
      moe_layer_freq: 1,
      scoring_func: "softmax",
      norm_topk_prob: false,
    },
    billions: 16.376,
  },
  "DeepSeek-V2-Lite": {
    config: {
      ...v2,
      hidden_size: 2048,
      num_hidden_layers: 27,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      intermediate_size: 10944,
      moe_intermediate_size: 1408,
      n_routed_experts: 64,
      routed_scaling_factor: 1,
      q_lora_rank: null,
      topk_method: "greedy",
      n_group: 1,
      topk_group: 1,
      rope_scaling: { ...yarn40, mscale: liteMscale, mscale_all_dim: liteMscale },
    },
    billions: 15.706,
  },
  "DeepSeek-V2": { config: v2, billions: 235.74 },
  "DeepSeek-V3": {
    config: {
      ...v2,
      model_type: "deepseek_v3",
      vocab_size: 129280,
      hidden_size: 7168,
      num_hidden_layers: 61,
      intermediate_size: 18432,
      moe_intermediate_size: 2048,
      n_routed_experts: 256,
      n_shared_experts: 1,
      num_experts_per_tok: 8,
      routed_scaling_factor: 2.5,
      topk_method: "noaux_tc",
      scoring_func: "sigmoid",
      topk_group: 4,
      norm_topk_prob: true,
      first_k_dense_replace: 3,
      num_nextn_predict_layers: 1,
      quantization_config: {
        activation_scheme: "dynamic",
        fmt: "e4m3",
        quant_method: "fp8",
        weight_block_size: [128, 128],
      },
    },
    billions: 671.03,
  },
};

/** A deep copy of a published config with `changes` made at the top; a change to undefined removes the field. */
export function publishedWith(name: string, changes: Json = {}): Json {
  const copy: Json = structuredClone(published[name]!.config);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) delete copy[key];
    else copy[key] = value;
  }
  return copy;
}
