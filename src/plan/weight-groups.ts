/**
 * The weights of a model by size alone, as many entries as there are kinds: from a config, or from nothing but the headers
 * of safetensors files, whose names tell layers, experts and attention.
 */
import { InputError } from "../ir/errors.ts";
import type { DType, TensorType } from "../ir/types.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { scaleSuffix, weightSpecs } from "../models/deepseek/weights.ts";

/** Weights of one kind: of every layer that has it, or of none. */
export interface WeightGroup {
  /** As in `weightSpecs`: `{layer}` and `{expert}` stand for numbers. */
  readonly name: string;
  /** Of a vector: 1. */
  readonly rows: number;
  readonly columns: number;
  readonly layers: number;
  /** Experts, which are held as one buffer; 1 elsewhere. */
  readonly experts: number;
  /** In the checkpoint. */
  readonly stored: DType;
}

/** What memory depends on. */
export interface WeightSizes {
  readonly groups: readonly WeightGroup[];
  /** Whether the head is the embedding once more. */
  readonly tied: boolean;
  readonly layers: number;
  /** Values that a token leaves in the cache of a layer. */
  readonly cacheWidth: number;
  readonly hidden: number;
  readonly vocab: number;
  /** Values of the cosine and sine tables for one position; 0 where the headers do not tell. */
  readonly rope: number;
  /** Longest context; null where nobody says. */
  readonly maxContext: number | null;
}

/** By the spelling of configs. */
export const dtypeOf = { float32: "f32", float16: "f16", bfloat16: "bf16" } as const satisfies Record<string, DType>;

/** @param headers what a checkpoint stores, where there is one */
export function sizesOfConfig(config: ModelConfig, headers?: ReadonlyMap<string, TensorType>): WeightSizes {
  const { attention, rope } = config;
  const groups = weightSpecs(config).map(({ name, shape, layers, experts, quantized }): WeightGroup => {
    const first = headers?.get(name.replace("{layer}", String(layers?.[0])).replace("{expert}", "0"));
    const stored = first?.dtype ?? (quantized ? "f8e4m3" : dtypeOf[config.dtype]);
    return group(name, shape, layers?.length ?? 1, experts ?? 1, stored);
  });
  return {
    groups,
    tied: config.tie_word_embeddings,
    layers: config.num_hidden_layers,
    cacheWidth:
      attention.kind === "mla"
        ? attention.kv_lora_rank + attention.qk_rope_head_dim
        : 2 * attention.num_key_value_heads * attention.head_dim,
    hidden: config.hidden_size,
    vocab: config.vocab_size,
    rope: rope.dim,
    maxContext: config.max_position_embeddings,
  };
}

function group(name: string, shape: readonly number[], layers: number, experts: number, stored: DType): WeightGroup {
  const columns = shape.at(-1) ?? 1;
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return { name, rows, columns, layers, experts, stored };
}

const embedding = "model.embed_tokens.weight";

/** From names, dtypes and shapes alone. @throws InputError where they are not those of a model of these families */
export function sizesOfHeaders(headers: ReadonlyMap<string, TensorType>, where: string): WeightSizes {
  // A layer that predicts further tokens is stored as one more layer, and never run.
  const extra = new Set(
    [...headers.keys()].flatMap((name) => /^model\.layers\.(\d+)\.eh_proj\./.exec(name)?.[1] ?? []),
  );
  const groups = groupsOfHeaders(headers, extra);
  const table = groups.find(({ name }) => name === embedding);
  if (table === undefined) {
    throw new InputError(where, `there is no tensor ${embedding}`, {
      hint: "A config.json beside the weights says more than their names do.",
    });
  }
  const rowsOf = (name: string) =>
    groups.find((each) => each.name === `model.layers.{layer}.self_attn.${name}.weight`)?.rows;
  const latent = rowsOf("kv_a_proj_with_mqa");
  const [key, value] = [rowsOf("k_proj"), rowsOf("v_proj")];
  if (latent === undefined && (key === undefined || value === undefined)) {
    throw new InputError(where, "the names of the tensors do not tell what attention caches", {
      hint: "Expected self_attn.k_proj and v_proj, or kv_a_proj_with_mqa.",
    });
  }
  return {
    groups,
    tied: !groups.some(({ name }) => name === "lm_head.weight"),
    layers:
      new Set([...headers.keys()].flatMap((name) => /^model\.layers\.(\d+)\./.exec(name)?.[1] ?? [])).size - extra.size,
    cacheWidth: latent ?? key! + value!,
    hidden: table.columns,
    vocab: table.rows,
    rope: 0,
    maxContext: null,
  };
}

/** Tensors that differ in nothing but the numbers in their names are one group. */
function groupsOfHeaders(headers: ReadonlyMap<string, TensorType>, extra: ReadonlySet<string>): WeightGroup[] {
  const found = new Map<string, { type: TensorType; layers: Set<string>; experts: Set<string>; count: number }>();
  for (const [name, type] of headers) {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    if (name.endsWith(scaleSuffix) || name.endsWith(".inv_freq") || (layer !== undefined && extra.has(layer))) continue;
    const expert = /\.experts\.(\d+)\./.exec(name)?.[1];
    const pattern = name.replace(/^(model\.layers\.)\d+/, "$1{layer}").replace(/(\.experts\.)\d+/, "$1{expert}");
    // Weights of one name may differ in shape from layer to layer: dense layers before those of experts, say.
    const key = `${pattern} ${type.dtype} ${type.shape.join()}`;
    const entry = found.get(key) ?? { type, layers: new Set(), experts: new Set(), count: 0 };
    if (layer !== undefined) entry.layers.add(layer);
    if (expert !== undefined) entry.experts.add(expert);
    entry.count++;
    found.set(key, entry);
  }
  return [...found].map(([key, { type, layers, experts, count }]) => {
    const each = Math.max(experts.size, 1);
    return group(key.split(" ")[0]!, type.shape, Math.max(layers.size, count / each), each, type.dtype);
  });
}
