/**
 * The demo model's step written with TensorFlow.js on its CPU backend, as the comparison partner of our benches: prefill
 * and decode with a KV cache, weights as tensors made once, everything in tf.tidy. README.md lists the variants measured.
 */
import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import type { ModelConfig } from "../../src/models/deepseek/config.ts";
import { inverseFrequencies } from "../../src/models/deepseek/rope.ts";
import { attend, type Cache, type Rotation } from "./tfjs-attention.ts";
import { mixExperts } from "./tfjs-moe.ts";
import { linear, normalize, swiglu } from "./tfjs-ops.ts";
import {
  type FeedForwardWeights,
  foldLayer,
  type LinearLayout,
  WeightFolder,
  type WeightReader,
} from "./tfjs-weights.ts";

export interface TfjsVariant {
  readonly linear: LinearLayout;
  /** The cache, and with it the form of attention while decoding: latent is absorbed, perHead materialised. */
  readonly cache: Cache["kind"];
}

/** The fastest of those measured. */
export const fastestVariant: TfjsVariant = { linear: "conv1x1", cache: "latent" };

export interface TfjsModel {
  /** Runs all of `ids` after what the cache holds; the logits [vocab_size] of the last. */
  prefill(ids: readonly number[]): Float32Array;
  /** Runs one token; its logits [vocab_size]. */
  decode(id: number): Float32Array;
  /** Forgets the sequence. */
  reset(): void;
}

/** `weight` returns a checkpoint tensor by name, in float32. */
export function createTfjsModel(
  config: ModelConfig,
  weight: WeightReader,
  variant: TfjsVariant = fastestVariant,
): TfjsModel {
  const mla = config.attention;
  if (mla.kind !== "mla" || mla.q_lora_rank === null) throw new Error("the tfjs step runs MLA with q_lora only");
  tf.enableProdMode();
  const folder = new WeightFolder(weight, variant.linear);
  const layers = config.feed_forward.map((_, i) => foldLayer(folder, config, mla, i));
  const { shape, data: embeddings } = weight("model.embed_tokens.weight");
  const hidden = shape[1]!;
  const head = folder.linear(folder.afterNorm(folder.matrix("lm_head"), "model.norm"));
  let caches: Cache[] = [];
  let position = 0;

  const embed = (ids: readonly number[]) => {
    const rows = new Float32Array(ids.length * hidden);
    ids.forEach((id, i) => {
      rows.set(embeddings.subarray(id * hidden, (id + 1) * hidden), i * hidden);
    });
    return tf.tensor2d(rows, [ids.length, hidden]);
  };

  const step = (ids: readonly number[]): Float32Array => {
    const before = caches;
    const { logits, after } = tf.tidy(() => {
      const rotation = rotationAt(config, position, ids.length);
      let x = embed(ids);
      const after = layers.map((layer, i) => {
        const normed = normalize(x, config.rms_norm_eps);
        const { y, cache } = attend(normed, mla, layer.attention, rotation, before[i], variant.cache);
        x = tf.add(x, y);
        x = tf.add(x, feedForward(normalize(x, config.rms_norm_eps), layer.feedForward));
        return cache;
      });
      const last = tf.slice(x, [ids.length - 1, 0], [1, hidden]);
      return { logits: linear(normalize(last, config.rms_norm_eps), head), after };
    });
    tf.dispose(before);
    caches = after;
    position += ids.length;
    const values = logits.dataSync<"float32">();
    logits.dispose();
    return values;
  };

  return {
    prefill: step,
    decode: (id) => step([id]),
    reset: () => {
      tf.dispose(caches);
      caches = [];
      position = 0;
    },
  };
}

function feedForward(x: tf.Tensor2D, weights: FeedForwardWeights): tf.Tensor2D {
  return weights.kind === "moe" ? mixExperts(x, weights) : swiglu(x, weights.mlp);
}

/** cos and sin of each position's angles, for n tokens from `start` on. */
function rotationAt({ rope }: ModelConfig, start: number, n: number): Rotation {
  const frequencies = inverseFrequencies(rope);
  const table = (f: (angle: number) => number) => {
    const values = new Float32Array(n * rope.dim);
    for (let t = 0; t < n; t++) {
      for (let i = 0; i < rope.dim; i++) {
        values[t * rope.dim + i] = f((start + t) * frequencies[i >> 1]!) * rope.attention_factor;
      }
    }
    return tf.tensor2d(values, [n, rope.dim]);
  };
  return { cos: table(Math.cos), sin: table(Math.sin) };
}
