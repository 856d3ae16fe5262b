/** The models that the benchmark makes: published sizes, cut where they would not fit, as Hugging Face and llama.cpp name them. */
import { type ModelConfig, parseModelConfig } from "../../../src/models/deepseek/config.ts";
import { namesOf, weightSpecs } from "../../../src/models/deepseek/weights.ts";
import type { GgufValue } from "./gguf.ts";

export const shapeNames = ["qwen", "qwen7b", "v2lite"] as const;
export type ShapeName = (typeof shapeNames)[number];

/** @throws Error unless it is the name of a shape */
export function shapeName(text: string): ShapeName {
  const name = shapeNames.find((each) => each === text);
  if (name === undefined) throw new Error(`--shape: expected ${shapeNames.join(", ")}, got ${text}`);
  return name;
}

/** What a tensor holds: random weights that may be quantised, random small numbers in f32, or ones. */
export type Kind = "matrix" | "small" | "ones";

export interface GgufTensor {
  readonly name: string;
  /** The fastest axis first, as GGUF has it. */
  readonly dims: readonly number[];
  readonly kind: Kind;
  /** Tensors of the checkpoint whose values follow each other in this one. */
  readonly sources: readonly string[];
}

export interface Shape {
  readonly name: ShapeName;
  readonly title: string;
  readonly config: ModelConfig;
  /** The text of config.json. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly layers: number;
  /** Names files of this shape, as in qwen-4. */
  readonly key: string;
}

const common = { hidden_act: "silu", rms_norm_eps: 1e-6, tie_word_embeddings: false, torch_dtype: "bfloat16" };

/** What the models distilled into Qwen 2 have in common. */
const qwenOf = (layers: number) => ({
  ...common,
  model_type: "qwen2",
  architectures: ["Qwen2ForCausalLM"],
  num_hidden_layers: layers,
  max_position_embeddings: 131072,
  rope_theta: 10000,
  bos_token_id: 0,
  eos_token_id: 0,
});

const qwen = (layers: number) => ({
  ...qwenOf(layers),
  vocab_size: 151936,
  hidden_size: 1536,
  intermediate_size: 8960,
  num_attention_heads: 12,
  num_key_value_heads: 2,
});

const qwen7b = (layers: number) => ({
  ...qwenOf(layers),
  vocab_size: 152064,
  hidden_size: 3584,
  intermediate_size: 18944,
  num_attention_heads: 28,
  num_key_value_heads: 4,
});

/** DeepSeek-V2-Lite: one dense layer, then mixtures of 64 experts; 27 layers as published. */
const v2lite = (layers: number) => ({
  ...common,
  model_type: "deepseek_v2",
  architectures: ["DeepseekV2ForCausalLM"],
  vocab_size: 102400,
  hidden_size: 2048,
  intermediate_size: 10944,
  moe_intermediate_size: 1408,
  num_hidden_layers: layers,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  q_lora_rank: null,
  kv_lora_rank: 512,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
  n_routed_experts: 64,
  n_shared_experts: 2,
  num_experts_per_tok: 6,
  first_k_dense_replace: 1,
  moe_layer_freq: 1,
  n_group: 1,
  topk_group: 1,
  topk_method: "greedy",
  scoring_func: "softmax",
  norm_topk_prob: false,
  routed_scaling_factor: 1,
  max_position_embeddings: 163840,
  rope_theta: 10000,
  bos_token_id: 0,
  eos_token_id: 0,
});

/** `layers`: as published. */
const published = {
  qwen: { title: "R1-Distill-Qwen-1.5B shape", layers: 28, arch: "qwen2", json: qwen },
  qwen7b: { title: "R1-Distill-Qwen-7B shape", layers: 28, arch: "qwen2", json: qwen7b },
  v2lite: { title: "DeepSeek-V2-Lite shape", layers: 27, arch: "deepseek2", json: v2lite },
} as const;

/** How many layers of each are made where none are asked for: all of the small one; of the others what fits with bf16, int8 and int4. */
export const defaultLayers: Readonly<Record<ShapeName, number>> = { qwen: 28, qwen7b: 4, v2lite: 4 };

export function publishedLayers(name: ShapeName): number {
  return published[name].layers;
}

/** `vocab`: fewer tokens than published, where embedding and head should weigh less. */
export function shapeOf(name: ShapeName, layers: number, vocab?: number): Shape {
  const { title, layers: all, json: make } = published[name];
  const json = vocab === undefined ? make(layers) : { ...make(layers), vocab_size: vocab };
  const key = vocab === undefined ? `${name}-${layers}` : `${name}-${layers}-vocab-${vocab}`;
  return {
    name,
    title: `${title}, ${layers} of ${all} layers`,
    config: parseModelConfig(json, name),
    json,
    layers,
    key,
  };
}

/** Every tensor of the checkpoint with its shape. */
export function checkpointTensors({ config }: Shape): { name: string; shape: readonly number[]; kind: Kind }[] {
  return weightSpecs(config).flatMap((spec) =>
    [...namesOf(spec)].map((name) => ({ name, shape: spec.shape, kind: kindOf(name, spec.shape.length) })),
  );
}

function kindOf(name: string, rank: number): Kind {
  if (rank > 1) return "matrix";
  return name.endsWith(".bias") ? "small" : "ones";
}

/** The key-value pairs of the GGUF file. The tokenizer is one of bytes, which is enough for llama.cpp to accept it. */
export function ggufMetadata({ config, json, name, layers }: Shape): ReadonlyMap<string, GgufValue> {
  const { arch } = published[name];
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  const f32 = (value: number): GgufValue => ({ type: "f32", value });
  const text = (value: string): GgufValue => ({ type: "string", value });
  const own = new Map<string, GgufValue>([
    ["block_count", u32(layers)],
    ["context_length", u32(config.max_position_embeddings)],
    ["embedding_length", u32(config.hidden_size)],
    ["feed_forward_length", u32(Number(json.intermediate_size))],
    ["attention.head_count", u32(config.attention.num_attention_heads)],
    ["attention.layer_norm_rms_epsilon", f32(config.rms_norm_eps)],
    ["rope.freq_base", f32(10000)],
    ["vocab_size", u32(config.vocab_size)],
    ...(config.attention.kind === "mla"
      ? mixtureMetadata(config, u32, f32)
      : [["attention.head_count_kv", u32(config.attention.num_key_value_heads)] as const]),
  ]);
  return new Map<string, GgufValue>([
    ["general.architecture", text(arch)],
    ["general.name", text("random weights")],
    ...[...own].map(([key, value]) => [`${arch}.${key}`, value] as const),
    ["tokenizer.ggml.model", text("gpt2")],
    ["tokenizer.ggml.pre", text("qwen2")],
    ["tokenizer.ggml.tokens", { type: "strings", value: byteTokens(config.vocab_size) }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: new Int32Array(config.vocab_size).fill(1) }],
    ["tokenizer.ggml.merges", { type: "strings", value: ["a b"] }],
    ["tokenizer.ggml.bos_token_id", u32(config.vocab_size - 1)],
    ["tokenizer.ggml.eos_token_id", u32(config.vocab_size - 1)],
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: false }],
  ]);
}

function mixtureMetadata(
  { attention, feed_forward }: ModelConfig,
  u32: (value: number) => GgufValue,
  f32: (value: number) => GgufValue,
): (readonly [string, GgufValue])[] {
  const moe = feed_forward.find((each) => each.kind === "moe");
  if (attention.kind !== "mla" || moe === undefined) throw new Error("a mixture of experts with latent attention");
  const { kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim } = attention;
  return [
    // Latent attention as llama.cpp has it: one key-value head as wide as the latent and the rotated key.
    ["attention.head_count_kv", u32(1)],
    ["attention.q_lora_rank", u32(0)],
    ["attention.kv_lora_rank", u32(kv_lora_rank)],
    ["attention.key_length", u32(kv_lora_rank + qk_rope_head_dim)],
    ["attention.value_length", u32(kv_lora_rank)],
    ["attention.key_length_mla", u32(qk_nope_head_dim + qk_rope_head_dim)],
    ["attention.value_length_mla", u32(v_head_dim)],
    ["rope.dimension_count", u32(qk_rope_head_dim)],
    ["leading_dense_block_count", u32(feed_forward.filter(({ kind }) => kind === "dense").length)],
    ["expert_count", u32(moe.n_routed_experts)],
    ["expert_used_count", u32(moe.num_experts_per_tok)],
    ["expert_shared_count", u32(moe.n_shared_experts)],
    ["expert_feed_forward_length", u32(moe.moe_intermediate_size)],
    ["expert_weights_scale", f32(moe.routed_scaling_factor)],
    ["expert_weights_norm", { type: "bool", value: moe.norm_topk_prob }],
    ["expert_gating_func", u32(1)],
  ];
}

/** GPT-2's letters for the 256 bytes, then names of no meaning. */
function byteTokens(count: number): string[] {
  const shown = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  const bytes = Array.from({ length: 256 }, (_, b) => String.fromCodePoint(shown(b) ? b : next++));
  return [...bytes, ...Array.from({ length: count - 256 }, (_, i) => `<t${i}>`)];
}

/** The tensors of the GGUF file in the order of the layers. */
export function ggufTensors(shape: Shape): GgufTensor[] {
  const { config, layers } = shape;
  const tensors: GgufTensor[] = [];
  const shapes = new Map(checkpointTensors(shape).map((tensor) => [tensor.name, tensor]));
  const add = (name: string, source: string) => {
    const { shape: dims, kind } = shapes.get(source)!;
    tensors.push({ name, dims: dims.toReversed(), kind, sources: [source] });
  };
  add("token_embd.weight", "model.embed_tokens.weight");
  for (let layer = 0; layer < layers; layer++) {
    const [to, from] = [`blk.${layer}.`, `model.layers.${layer}.`];
    for (const [name, source] of plainNames) {
      if (shapes.has(from + source)) add(to + name, from + source);
    }
    if (config.attention.kind === "mla") addLatent(tensors, to, from, config.attention);
    const feedForward = config.feed_forward[layer]!;
    if (feedForward.kind !== "moe") continue;
    for (const part of ["gate", "up", "down"]) {
      const names = Array.from(
        { length: feedForward.n_routed_experts },
        (_, e) => `${from}mlp.experts.${e}.${part}_proj.weight`,
      );
      const { shape: dims, kind } = shapes.get(names[0]!)!;
      const all = [...dims.toReversed(), names.length];
      tensors.push({ name: `${to}ffn_${part}_exps.weight`, dims: all, kind, sources: names });
    }
  }
  add("output_norm.weight", "model.norm.weight");
  add("output.weight", "lm_head.weight");
  return tensors;
}

/** llama.cpp holds the matrices that make keys and values apart, the first transposed; ours are one. Values differ, sizes agree. */
function addLatent(
  tensors: GgufTensor[],
  to: string,
  from: string,
  attention: Extract<ModelConfig["attention"], { kind: "mla" }>,
): void {
  const { kv_lora_rank, qk_nope_head_dim, v_head_dim, num_attention_heads } = attention;
  const part = (name: string, dims: readonly number[]) =>
    tensors.push({ name: to + name, dims, kind: "matrix", sources: [`${from}${name}`] });
  part("attn_k_b.weight", [qk_nope_head_dim, kv_lora_rank, num_attention_heads]);
  part("attn_v_b.weight", [kv_lora_rank, v_head_dim, num_attention_heads]);
}

const plainNames: readonly (readonly [gguf: string, checkpoint: string])[] = [
  ["attn_norm.weight", "input_layernorm.weight"],
  ["attn_q.weight", "self_attn.q_proj.weight"],
  ["attn_q.bias", "self_attn.q_proj.bias"],
  ["attn_k.weight", "self_attn.k_proj.weight"],
  ["attn_k.bias", "self_attn.k_proj.bias"],
  ["attn_v.weight", "self_attn.v_proj.weight"],
  ["attn_v.bias", "self_attn.v_proj.bias"],
  ["attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"],
  ["attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"],
  ["attn_output.weight", "self_attn.o_proj.weight"],
  ["ffn_norm.weight", "post_attention_layernorm.weight"],
  ["ffn_gate.weight", "mlp.gate_proj.weight"],
  ["ffn_up.weight", "mlp.up_proj.weight"],
  ["ffn_down.weight", "mlp.down_proj.weight"],
  ["ffn_gate_inp.weight", "mlp.gate.weight"],
  ["ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight"],
  ["ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight"],
  ["ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight"],
];
