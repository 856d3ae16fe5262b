/**
 * A DeepSeek model as a module of the tensor IR: one function per kind of layer, and the entry `step` that runs a ragged
 * batch (n tokens drawn from b sequences) through all of them. Prefill, decode and mixtures of both are the same
 * function at different sizes.
 *
 * Letters: n tokens, b sequences, m blocks per sequence, s = m * blockSize keys per sequence, o outputs, i hidden_size.
 */
import { invariant } from "../../ir/errors.ts";
import { type Func, type Module, makeModule, type Node } from "../../ir/graph.ts";
import { type AttentionInput, type AttentionResult, gqa, type StepValues, type TokenValues } from "./attention.ts";
import { type Bucket, cacheSpecs, checkBucket, layerCacheSpecs } from "./bucket.ts";
import type { ModelConfig } from "./config.ts";
import type { FeedForward } from "./feed-forward-config.ts";
import { askingRows, lastRowsPay } from "./last-rows.ts";
import { linear, type ModelBuilder, modelBuilder, norm, swiglu, type WeightDType } from "./layers.ts";
import { mla } from "./mla.ts";
import { moe } from "./moe.ts";

export interface BuildOptions {
  /** How the checkpoint stores each weight (`checkpointDTypes`). Default: the config's dtype, FP8 for quantised weights. */
  readonly weightDType?: WeightDType;
  /**
   * More results of `step`, for tests: the embedding, then the residual stream after each layer, f32 [n, i] each, the
   * last one after the final norm.
   */
  readonly hiddenStates?: boolean;
  /**
   * More results of `step`, for calibration: of each layer with experts those chosen, i32 [n, k], and their weights,
   * f32 [n, k].
   */
  readonly routing?: boolean;
  /**
   * Whether the last layer computes only the rows that are outputs, beside the keys and values of all tokens. Default: where
   * that saves more than the function of its own takes to compile (`lastRowsPay`).
   */
  readonly lastRows?: boolean;
}

/**
 * The module whose entry is
 * `step(tokens i32[n], positions i32[n], sequence i32[n], slots i32[n], blockTable i32[b, m], outputs i32[o], ...caches)
 * -> logits f32[o, vocab_size], ...caches'`, with the caches of `cacheSpecs`.
 * `sequence` is each token's row of the block table and `slots` the cache row it is written to; `outputs` are the
 * tokens whose logits are wanted. Padding tokens have position -1 and slot -1: they are not stored, attend to nothing,
 * and change nothing for the others. Weights are those of `weightSpecs` and `deriveWeights`.
 */
export function buildModel(config: ModelConfig, bucket: Bucket, options: BuildOptions = {}): Module {
  checkBucket(bucket);
  const model = modelBuilder(config, options.weightDType);
  const { hiddenStates = false, routing = false } = options;
  const rowsLeft = bucket.outputs < bucket.tokens && !hiddenStates && !routing;
  const lastRows = rowsLeft && (options.lastRows ?? lastRowsPay(config, bucket));
  const kinds = new Map<FeedForward, Func>();
  // Layers of one kind share one object.
  const layers = config.feed_forward.map((kind, layer) => {
    if (lastRows && layer === config.feed_forward.length - 1) return buildBlock(model, bucket, kind, { lastRows });
    const block = kinds.get(kind) ?? buildBlock(model, bucket, kind, { routing });
    kinds.set(kind, block);
    return block;
  });
  const step = buildStep(model, bucket, layers, { hiddenStates, lastRows });
  return makeModule(config.model_type, [...new Set(layers), step], step.name);
}

function buildStep(
  model: ModelBuilder,
  bucket: Bucket,
  layers: readonly Func[],
  { hiddenStates, lastRows }: Required<Pick<BuildOptions, "hiddenStates" | "lastRows">>,
): Func {
  const { builder, m, config } = model;
  const { tokens: n, sequences: b, blocks, outputs: o, blockSize, ropeRows } = bucket;
  const tokens = builder.param("tokens", "i32", [n]);
  const positions = builder.param("positions", "i32", [n]);
  const sequence = builder.param("sequence", "i32", [n]);
  const slots = builder.param("slots", "i32", [n]);
  const blockTable = builder.param("blockTable", "i32", [b, blocks]);
  const outputs = builder.param("outputs", "i32", [o]);
  const caches = cacheSpecs(config, bucket).map(({ name, dtype, shape }) => builder.param(name, dtype, shape));

  const ropeTable = (name: string) => builder.weight(name, "f32", [ropeRows, config.rope.dim / 2]);
  const cos = m.named("cos", m.gather(ropeTable("rope.cos"), positions)); // [n, dim / 2]
  const sin = m.named("sin", m.gather(ropeTable("rope.sin"), positions)); // [n, dim / 2]
  const first = m.expandLast(m.mul(blockTable, blockSize)); // [b, m, 1]
  const rows = m.add(first, m.iota("i32", [b, blocks, blockSize], 2)); // [b, m, blockSize]
  const keyRows = m.named("key_rows", m.reshape(rows, [b, blocks * blockSize])); // [b, s]
  const shared = [cos, sin, keyRows, positions, sequence, slots];

  const embedding = model.weight("model.embed_tokens.weight"); // [vocab, i]
  const embedded = m.named("embedding", m.cast(m.gather(embedding, tokens), "f32")); // [n, i]
  const hidden: Node[] = [embedded];
  const routing: Node[] = [];
  const perLayer = caches.length / layers.length;
  let x: Node = embedded;
  const newCaches = layers.flatMap((block, layer) => {
    const own = caches.slice(layer * perLayer, (layer + 1) * perLayer);
    const rows = lastRows && layer === layers.length - 1 ? [outputs] : [];
    const [out = x, ...updated] = builder.call(block, [x, ...shared, ...rows, ...own], layer);
    x = m.named(`x.${layer}`, out); // [n, i], of the last layer perhaps [o, i]
    hidden.push(x);
    routing.push(...updated.slice(own.length));
    return updated.slice(0, own.length).map((cache, i) => m.named(`${own[i]?.attrs.name}.out`, cache));
  });

  const last = norm(model, "model.norm", lastRows ? x : m.gather(x, outputs)); // [o, i]
  const head = config.tie_word_embeddings ? "model.embed_tokens" : "lm_head";
  const logits = m.named("logits", linear(model, head, last)); // [o, vocab]
  return {
    name: "step",
    params: [tokens, positions, sequence, slots, blockTable, outputs, ...caches],
    outs: [
      logits,
      ...newCaches,
      ...(hiddenStates ? [...hidden.slice(0, -1), norm(model, "model.norm", x)] : []),
      ...routing,
    ],
  };
}

/**
 * A layer: attention, then the feed-forward network, each on a normalised copy of x and added to it. With `lastRows` it
 * takes `outputs` i32 [o] too, and its result has these rows alone.
 */
function buildBlock(
  model: ModelBuilder,
  bucket: Bucket,
  feedForward: FeedForward,
  { routing = false, lastRows = false }: Pick<BuildOptions, "routing" | "lastRows">,
): Func {
  const { builder, m, config } = model;
  const { tokens: n, sequences: b, blocks, blockSize, outputs: o } = bucket;
  const s = blocks * blockSize;
  const x = builder.param("x", "f32", [n, config.hidden_size]);
  const cos = builder.param("cos", "f32", [n, config.rope.dim / 2]);
  const sin = builder.param("sin", "f32", [n, config.rope.dim / 2]);
  const keyRows = builder.param("key_rows", "i32", [b, s]);
  const positions = builder.param("positions", "i32", [n]);
  const sequence = builder.param("sequence", "i32", [n]);
  const slots = builder.param("slots", "i32", [n]);
  const outputs = lastRows ? builder.param("outputs", "i32", [o]) : undefined;
  const caches = layerCacheSpecs(config, bucket).map(({ name, dtype, shape }) =>
    builder.param(`${name}_in`, dtype, shape),
  );

  const prefix = "model.layers.{layer}";
  const tokens: TokenValues = { n, cos, sin, positions, sequence };
  const asking = outputs === undefined ? tokens : askingRows(m, tokens, outputs);
  const step: StepValues = { ...tokens, b, s, keyRows, slots, asking };
  const attn_in = m.named("attn_in", norm(model, `${prefix}.input_layernorm`, x)); // [n, i]
  // As many rows as there are outputs, from here on.
  const x_in = outputs === undefined ? x : m.named("x_in", m.gather(x, outputs));
  const q_in = outputs === undefined ? attn_in : m.named("q_in", norm(model, `${prefix}.input_layernorm`, x_in));
  const attention = buildAttention(model, step, `${prefix}.self_attn`, { x: attn_in, asking: q_in }, caches);
  const x_mid = m.named("x_mid", m.add(x_in, m.named("attn_out", attention.out)));
  const mlp_in = m.named("mlp_in", norm(model, `${prefix}.post_attention_layernorm`, x_mid)); // [n, i]
  const mlp =
    feedForward.kind === "dense"
      ? { out: swiglu(model, `${prefix}.mlp`, mlp_in), choice: null }
      : moe(model, feedForward, `${prefix}.mlp`, mlp_in); // [n, i]
  const x_out = m.named("x_out", m.add(x_mid, m.named("mlp_out", mlp.out)));
  const chosen = routing && mlp.choice !== null ? [mlp.choice.experts, mlp.choice.weights] : [];
  const rows = outputs === undefined ? [] : [outputs];
  return {
    name: outputs === undefined ? `${feedForward.kind}_block` : `last_${feedForward.kind}_block`,
    params: [x, cos, sin, keyRows, positions, sequence, slots, ...rows, ...caches],
    outs: [x_out, ...attention.caches, ...chosen],
  };
}

function buildAttention(
  model: ModelBuilder,
  step: StepValues,
  name: string,
  x: AttentionInput,
  caches: readonly Node[],
): AttentionResult {
  const { attention } = model.config;
  const [first, second] = caches;
  // As layerCacheSpecs has them.
  invariant(first !== undefined, () => "a layer has a cache");
  if (attention.kind === "mla") return mla(model, attention, step, name, x, first);
  invariant(second !== undefined, () => "grouped-query attention has two caches");
  return gqa(model, attention, step, name, x, first, second);
}
