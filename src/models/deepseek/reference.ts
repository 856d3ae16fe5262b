/**
 * The whole model in plain loops over doubles: no IR, no cache, one sequence, every layer written out. It is what the
 * compiled model is checked against, so it is made to be read, and shares no code with the compiler.
 */
import { InputError } from "../../ir/errors.ts";
import type { Tensor } from "../../ir/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { referenceAttention } from "./reference-attention.ts";
import { addTo, linear, readWeight, rmsNorm, swiglu, type WeightSource } from "./reference-math.ts";
import { referenceMoe } from "./reference-moe.ts";

export interface ReferenceResult {
  /** [tokens, vocab_size] */
  readonly logits: Float64Array;
  /** The embedding, then the residual stream after each layer, [tokens, hidden_size] each; the last is after the final norm. */
  readonly hidden: readonly Float64Array[];
}

/** Logits of every token of one sequence. `weight` returns a tensor by checkpoint name, FP8 scales included. */
export function referenceLogits(
  config: ModelConfig,
  weight: (name: string) => Tensor,
  ids: ArrayLike<number>,
): ReferenceResult {
  const source: WeightSource = { weight, block: config.quantization?.weight_block_size ?? null };
  const { hidden_size, rms_norm_eps } = config;
  const norm = (x: Float64Array, name: string) => rmsNorm(x, readWeight(source, `${name}.weight`), rms_norm_eps);
  const x = embed(config, source, ids);
  const hidden: Float64Array[] = [x.slice()];
  config.feed_forward.forEach((feedForward, layer) => {
    const prefix = `model.layers.${layer}`;
    addTo(x, referenceAttention(config, source, `${prefix}.self_attn`, norm(x, `${prefix}.input_layernorm`)));
    const y = norm(x, `${prefix}.post_attention_layernorm`);
    const mlp =
      feedForward.kind === "dense"
        ? swiglu(source, `${prefix}.mlp`, y, hidden_size)
        : referenceMoe(feedForward, source, `${prefix}.mlp`, y, hidden_size);
    addTo(x, mlp);
    hidden.push(x.slice());
  });
  const last = norm(x, "model.norm");
  hidden[hidden.length - 1] = last;
  const head = config.tie_word_embeddings ? "model.embed_tokens" : "lm_head";
  return { logits: linear(source, head, last, hidden_size), hidden };
}

/** Continues `ids` by the most likely token, `count` times, recomputing the whole sequence for each. */
export function referenceGreedy(
  config: ModelConfig,
  weight: (name: string) => Tensor,
  ids: readonly number[],
  count: number,
): readonly number[] {
  const sequence = [...ids];
  for (let i = 0; i < count; i++) {
    const { logits } = referenceLogits(config, weight, sequence);
    const row = logits.subarray(logits.length - config.vocab_size);
    sequence.push(row.indexOf(row.reduce((a, b) => Math.max(a, b))));
  }
  return sequence;
}

function embed(config: ModelConfig, source: WeightSource, ids: ArrayLike<number>): Float64Array {
  const { vocab_size, hidden_size } = config;
  const table = readWeight(source, "model.embed_tokens.weight");
  const x = new Float64Array(ids.length * hidden_size);
  for (let t = 0; t < ids.length; t++) {
    const id = ids[t]!;
    if (!Number.isInteger(id) || id < 0 || id >= vocab_size) {
      throw new InputError(`token ${t}`, `expected an id in 0..${vocab_size - 1}, got ${id}`);
    }
    x.set(table.subarray(id * hidden_size, (id + 1) * hidden_size), t * hidden_size);
  }
  return x;
}
