/**
 * What a plan needs to know of a model, in numbers alone: per layer, bytes that a mesh cuts or repeats, operations per
 * token, bytes of cache. From a config it is counted over the very weights that loading would read (`weightSpecs`), cut as
 * the pass would cut them (`modelSharding`); other models may be described by hand.
 */
import { type Mesh, sizeAlong } from "../ir/mesh.ts";
import { sizeOf } from "../ir/types.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { modelSharding, type ShardingAxes } from "../models/deepseek/sharding.ts";
import { type WeightSpec, weightSpecs } from "../models/deepseek/weights.ts";

/** How weights are held; `stored` is as the config says. */
export type PlanFormat = "stored" | "bf16" | "fp8" | "int8" | "int4";
export const planFormats: readonly PlanFormat[] = ["stored", "bf16", "fp8", "int8", "int4"];

export interface LayerShape {
  /** Parameters that every token meets; cut by tensor parallelism, or repeated on its devices. */
  readonly cut: number;
  readonly repeated: number;
  /** Of these, embedding rows: held, but one row is read per token. */
  readonly looked: number;
  /** Whether its parameters are those of the first layer (tied embeddings): on one device they are held once. */
  readonly tied?: boolean;
  /** Null without experts. */
  readonly experts: ExpertShape | null;
  /** Whether it has attention, and so collectives, a cache and launches of its own. */
  readonly attention: boolean;
}

export interface ExpertShape {
  readonly count: number;
  readonly perToken: number;
  /** Parameters of one. */
  readonly size: number;
  /** Groups of experts of which a token takes `groupsPerToken`; 1 where there are none. */
  readonly groups: number;
  readonly groupsPerToken: number;
}

export interface ModelShape {
  readonly name: string;
  readonly hidden: number;
  /** In order; the embedding comes before and the head after as layers without attention. */
  readonly layers: readonly LayerShape[];
  /** Bits of a parameter of layers (`cut`, `repeated`), of one of experts, and of tables at both ends. */
  readonly bits: { readonly layer: number; readonly expert: number; readonly table: number };
  /** Bytes of cache per token and layer on each device, without parallelism. */
  readonly cacheBytes: number;
  /** Key heads: into how many parts tensor parallelism can cut the cache. 1: latents, which every device needs whole. */
  readonly cacheHeads: number;
  /** Operations per token, layer and token attended to; of decoding and of prefill. */
  readonly decodeAttention: number;
  readonly prefillAttention: number;
  readonly maxContext: number;
}

/** Elements that share a scale: sums are cut between groups. */
export function groupOf(format: PlanFormat): number {
  return format === "int8" || format === "int4" ? 32 : 1;
}

const formatBits: Readonly<Record<Exclude<PlanFormat, "stored">, number>> = {
  bf16: 16,
  fp8: 8 + 32 / (128 * 128),
  // Codes and an f16 scale for 32 of them.
  int8: 8.5,
  int4: 4.5,
};

export function shapeOf(name: string, config: ModelConfig, format: PlanFormat, cacheBits: number): ModelShape {
  const specs = weightSpecs(config);
  const stored = config.quantization !== null ? "fp8" : "bf16";
  const wide = config.quantization === null && config.dtype === "float32" ? 32 : 16;
  const own = format === "stored" ? (stored === "bf16" ? wide : formatBits.fp8) : formatBits[format];
  // As the policy of quantisation has it: tables and the head at 8 bits at least.
  const coded = format === "int8" || format === "int4";
  const table = coded ? formatBits.int8 : format === "stored" ? wide : formatBits.bf16;
  const isCut = cutOf(config);
  const { attention } = config;
  const h = attention.num_attention_heads;
  const layers = config.feed_forward.map((feedForward, layer): LayerShape => {
    const all = specs.filter((spec) => spec.layers?.includes(layer));
    const plain = all.filter((spec) => spec.experts === null);
    const count = (list: readonly WeightSpec[]) => list.reduce((sum, spec) => sum + sizeOf(spec.shape), 0);
    const cut = plain.filter(isCut);
    const experts =
      feedForward.kind === "dense"
        ? null
        : {
            count: feedForward.n_routed_experts,
            perToken: feedForward.num_experts_per_tok,
            size: count(all.filter((spec) => spec.experts !== null)),
            groups: feedForward.n_group,
            groupsPerToken: feedForward.topk_group,
          };
    return { cut: count(cut), repeated: count(plain) - count(cut), looked: 0, experts, attention: true };
  });
  const vocabulary = config.vocab_size * config.hidden_size;
  const first = { cut: vocabulary, repeated: 0, looked: vocabulary, experts: null, attention: false };
  const last = { ...first, looked: 0, tied: config.tie_word_embeddings };
  const width =
    attention.kind === "mla"
      ? attention.kv_lora_rank + attention.qk_rope_head_dim
      : 2 * attention.num_key_value_heads * attention.head_dim;
  const [decode, prefill] =
    attention.kind === "mla"
      ? [
          2 * h * (2 * attention.kv_lora_rank + attention.qk_rope_head_dim),
          2 * h * (attention.qk_nope_head_dim + attention.qk_rope_head_dim + attention.v_head_dim),
        ]
      : [4 * h * attention.head_dim, 4 * h * attention.head_dim];
  return {
    name,
    hidden: config.hidden_size,
    layers: [first, ...layers, last],
    bits: { layer: own, expert: own, table },
    cacheBytes: (width * cacheBits) / 8,
    cacheHeads: attention.kind === "mla" ? 1 : attention.num_key_value_heads,
    decodeAttention: decode,
    prefillAttention: prefill,
    maxContext: config.max_position_embeddings,
  };
}

/** Whether tensor parallelism cuts a weight: what the placement of the pass says for any degree. */
function cutOf(config: ModelConfig): (spec: WeightSpec) => boolean {
  const { num_attention_heads: heads } = config.attention;
  const { weight } = modelSharding(config, { tp: smallestDivisor(heads) });
  const known = new Map<WeightSpec, boolean>();
  return (spec) => {
    const cut = known.get(spec) ?? (weight(spec.name, spec.shape)?.dims.flat().length ?? 0) > 0;
    known.set(spec, cut);
    return cut;
  };
}

/** Of more than 1; 1 only for 1. */
function smallestDivisor(n: number): number {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return d;
  return n;
}

/** Bytes of all weights on the device that has most, as the pass cuts them; for checks against the shape. */
export function weightBytesOf(config: ModelConfig, mesh: Mesh, bits: number, axes: ShardingAxes = {}): number {
  const sharding = modelSharding(config, mesh, axes);
  return weightSpecs(config).reduce((sum, spec) => {
    const name = spec.name.replace("{expert}", "{0}");
    const shape = spec.experts === null ? spec.shape : [spec.experts, ...spec.shape];
    const dims = sharding.weight(name, shape)?.dims.flat() ?? [];
    return sum + ((spec.layers?.length ?? 1) * sizeOf(shape) * bits) / 8 / sizeAlong(sharding.mesh, dims);
  }, 0);
}
