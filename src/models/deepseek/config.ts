/**
 * A Hugging Face `config.json`, checked and made immutable. Fields keep their Hugging Face names; what differs between
 * families is told by tagged records (`attention.kind`, `feed_forward[i].kind`, ...), so later code never asks for
 * `model_type`. Sizes have no defaults: a file without them is refused rather than given one model's numbers.
 */
import { didYouMean, InputError } from "../../ir/errors.ts";
import { type Attention, readGqa, readMla } from "./attention-config.ts";
import { type FeedForward, type MoeDefaults, readDense, readMixed } from "./feed-forward-config.ts";
import {
  boolField,
  choiceField,
  type Fields,
  fieldsOf,
  intField,
  intListField,
  numberField,
  optionalIntField,
  type Range,
  rawField,
  unsupportedValue,
  wrongValue,
} from "./fields.ts";
import { attentionFactor } from "./rope.ts";
import { type RopeConfig, readRope } from "./rope-config.ts";

export const families = ["llama", "qwen2", "qwen3", "deepseek", "deepseek_v2", "deepseek_v3"] as const;
export type Family = (typeof families)[number];

/** FP8 weights: e4m3 values times one f32 per block, stored under the weight's name with `_scale_inv` added. */
export interface Fp8Quantization {
  readonly quant_method: "fp8";
  readonly fmt: "e4m3";
  /** Rows and columns of a block; blocks at the edges may be cut off. */
  readonly weight_block_size: readonly [rows: number, columns: number];
}

export interface ModelConfig {
  /** For messages only. */
  readonly model_type: Family;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings: boolean;
  readonly attention: Attention;
  /** One entry per layer; layers of one kind share one object. */
  readonly feed_forward: readonly FeedForward[];
  readonly rope: RopeConfig;
  readonly quantization: Fp8Quantization | null;
  /** Multi-token-prediction layers stored after the model's own, at `model.layers.{num_hidden_layers}` and on. */
  readonly num_nextn_predict_layers: number;
  /** The dtype the checkpoint says it was saved in. */
  readonly dtype: "float32" | "float16" | "bfloat16";
  /** The tokenizer's ids go before these: some published configs carry wrong ones. */
  readonly bos_token_id: number | null;
  readonly eos_token_id: readonly number[];
}

/** Families we know of and do not run, with the nearest that we do. */
const nearestFamily: ReadonlyMap<string, Family> = new Map<string, Family>([
  ["deepseek_v32", "deepseek_v3"],
  ["deepseek_v4", "deepseek_v3"],
  ["deepseek_v41", "deepseek_v3"],
  ["deepseek_vl_v2", "deepseek_v2"],
  ["deepseek_ocr2", "deepseek_v2"],
  ["mistral", "llama"],
  ["qwen2_moe", "qwen2"],
  ["qwen3_moe", "qwen3"],
]);

const greedyMoe: MoeDefaults = {
  scoring_func: "softmax",
  topk_method: "greedy",
  norm_topk_prob: false,
  routed_scaling_factor: 1,
  first_k_dense_replace: 0,
};
const noauxMoe: MoeDefaults = {
  scoring_func: "sigmoid",
  topk_method: "noaux_tc",
  norm_topk_prob: true,
  routed_scaling_factor: 2.5,
  first_k_dense_replace: 3,
};

const maxConfigLength = 2 ** 20;

/** Reads the text of a `config.json`. */
export function parseModelConfigText(text: string, where = "config.json"): ModelConfig {
  if (text.length > maxConfigLength) {
    throw new InputError(where, `too long: expected at most ${maxConfigLength} characters, got ${text.length}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new InputError(where, `not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  return parseModelConfig(json, where);
}

/** Reads a parsed `config.json`; throws InputError or UnsupportedError naming the field. */
export function parseModelConfig(json: unknown, where = "config.json"): ModelConfig {
  const fields = fieldsOf(json, where);
  const model_type = readFamily(fields);
  const hidden_size = intField(fields, "hidden_size", { min: 1, max: 2 ** 17 });
  const num_hidden_layers = intField(fields, "num_hidden_layers", { min: 1, max: 1024 });
  const max_position_embeddings = intField(fields, "max_position_embeddings", { min: 1, max: 2 ** 24 });
  const vocab_size = intField(fields, "vocab_size", { min: 1, max: 2 ** 22 });
  checkPlainStack(fields, num_hidden_layers);
  const { rope_theta, scaling } = readRope(fields, max_position_embeddings);
  const attention = readAttention(fields, model_type, hidden_size, scaling);
  const tokenIds: Range = { min: 0, max: vocab_size - 1 };
  return deepFreeze({
    model_type,
    vocab_size,
    hidden_size,
    num_hidden_layers,
    max_position_embeddings,
    rms_norm_eps: numberField(fields, "rms_norm_eps", { min: 0, max: 1 }, 1e-6),
    tie_word_embeddings: boolField(fields, "tie_word_embeddings", false),
    attention,
    feed_forward: readFeedForward(fields, model_type, num_hidden_layers),
    rope: {
      rope_theta,
      dim: attention.kind === "mla" ? attention.qk_rope_head_dim : attention.head_dim,
      layout: attention.kind === "mla" && boolField(fields, "rope_interleave", true) ? "interleaved" : "half",
      scaling,
      attention_factor: attentionFactor(scaling),
    },
    quantization: readQuantization(fields),
    num_nextn_predict_layers: intField(fields, "num_nextn_predict_layers", { min: 0, max: 16 }, 0),
    dtype: readDType(fields),
    bos_token_id: optionalIntField(fields, "bos_token_id", tokenIds),
    eos_token_id: intListField(fields, "eos_token_id", tokenIds, 64),
  });
}

function readFamily(fields: Fields): Family {
  const name = rawField(fields, "model_type");
  const found = families.find((family) => family === name);
  if (found !== undefined) return found;
  if (typeof name !== "string") return choiceField(fields, "model_type", families);
  const nearest = nearestFamily.get(name);
  const hint = nearest === undefined ? didYouMean(name, families) : `The nearest supported family is ${nearest}.`;
  throw unsupportedValue(fields, "model_type", `one of ${families.join(", ")}`, name, hint);
}

/** Refuses variations of the block that no supported checkpoint uses. */
function checkPlainStack(fields: Fields, layers: number): void {
  choiceField(fields, "hidden_act", ["silu"], "silu");
  for (const name of ["mlp_bias", "use_sliding_window"]) {
    if (boolField(fields, name, false)) throw unsupportedValue(fields, name, "false", true);
  }
  if (!boolField(fields, "use_mla", true)) {
    throw unsupportedValue(fields, "use_mla", "true", false, "The nearest supported family without it is deepseek.");
  }
  const types = rawField(fields, "layer_types");
  if (types === undefined) return;
  if (!Array.isArray(types) || types.length !== layers) {
    throw wrongValue(fields, "layer_types", `a list of ${layers} (num_hidden_layers) names`, types);
  }
  const other: unknown = types.find((type) => type !== "full_attention");
  if (other !== undefined) throw unsupportedValue(fields, "layer_types", "full_attention for every layer", other);
}

function readAttention(fields: Fields, family: Family, hiddenSize: number, scaling: RopeConfig["scaling"]): Attention {
  switch (family) {
    case "llama":
    case "deepseek":
      return readGqa(fields, hiddenSize, { bias: "attention_bias", qk_norm: false, kvHeadsDefault: true });
    case "qwen2":
      return readGqa(fields, hiddenSize, { bias: "always_qkv", qk_norm: false, kvHeadsDefault: false });
    case "qwen3":
      return readGqa(fields, hiddenSize, { bias: "attention_bias", qk_norm: true, kvHeadsDefault: false });
    case "deepseek_v2":
    case "deepseek_v3":
      return readMla(fields, scaling);
  }
}

function readFeedForward(fields: Fields, family: Family, layers: number): readonly FeedForward[] {
  switch (family) {
    case "llama":
    case "qwen2":
    case "qwen3":
      return new Array<FeedForward>(layers).fill(readDense(fields));
    case "deepseek":
    case "deepseek_v2":
      return readMixed(fields, layers, greedyMoe);
    case "deepseek_v3":
      return readMixed(fields, layers, noauxMoe);
  }
}

function readQuantization(config: Fields): Fp8Quantization | null {
  const raw = rawField(config, "quantization_config");
  if (raw === undefined) return null;
  const fields = fieldsOf(raw, `${config.where} quantization_config`);
  const quant_method = choiceField(fields, "quant_method", ["fp8"]);
  const fmt = choiceField(fields, "fmt", ["e4m3"], "e4m3");
  const blocks: Range = { min: 1, max: 65536 };
  const given = rawField(fields, "weight_block_size") !== undefined;
  const block = given ? intListField(fields, "weight_block_size", blocks, 2) : [128, 128];
  if (block[0] !== 128 || block[1] !== 128) throw unsupportedValue(fields, "weight_block_size", "[128,128]", block);
  return { quant_method, fmt, weight_block_size: [128, 128] };
}

function readDType(fields: Fields): ModelConfig["dtype"] {
  const name = rawField(fields, "dtype") === undefined ? "torch_dtype" : "dtype";
  return choiceField(fields, name, ["float32", "float16", "bfloat16"], "float32");
}

/** Freezes a record and all records and lists inside it. */
function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) {
    if (typeof inner === "object" && inner !== null && !Object.isFrozen(inner)) deepFreeze(inner);
  }
  return Object.freeze(value);
}
