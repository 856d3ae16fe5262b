/**
 * A bucket: the sizes that one compiled step is specialised to, and the caches that it reads and writes. A step with
 * fewer tokens than its bucket is padded: padding tokens have position -1 and slot -1.
 */
import { InputError } from "../../ir/errors.ts";
import type { DType, Shape } from "../../ir/types.ts";
import type { ModelConfig } from "./config.ts";

export interface Bucket {
  /** n: tokens of one step, those of all sequences together. */
  readonly tokens: number;
  /** b: sequences that the tokens are drawn from, rows of the block table. */
  readonly sequences: number;
  /** m: cache blocks per sequence, columns of the block table. A sequence holds at most m * blockSize tokens. */
  readonly blocks: number;
  /** o: tokens whose logits are wanted. */
  readonly outputs: number;
  /** Cache rows (tokens) in a block. */
  readonly blockSize: number;
  /** Rows of each cache, a whole number of blocks. */
  readonly slots: number;
  /** Rows of the tables of cosines and sines: positions are below this, so it is the longest context. */
  readonly ropeRows: number;
}

export interface CacheSpec {
  /** Name of the parameter of `step`. */
  readonly name: string;
  /** [slots, values per token] */
  readonly shape: Shape;
  readonly dtype: DType;
}

/** Indices are i32. */
const maxIndex = 2 ** 31 - 1;

/** Throws InputError naming the first size of `bucket` that makes no sense. */
export function checkBucket(bucket: Bucket, where = "bucket"): void {
  const { tokens, sequences, blocks, outputs, blockSize, slots, ropeRows } = bucket;
  const sizes = { tokens, sequences, blocks, outputs, blockSize, slots, ropeRows };
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isInteger(size) || size < 1 || size > maxIndex) {
      throw new InputError(where, `${name}: expected a whole number from 1 to 2^31 - 1, got ${size}`);
    }
  }
  if (sequences > tokens) {
    const hint = "Each sequence of a step has at least one token; use a bucket with fewer sequences.";
    throw new InputError(where, `sequences: expected at most tokens = ${tokens}, got ${sequences}`, { hint });
  }
  if (outputs > tokens) {
    throw new InputError(where, `outputs: expected at most tokens = ${tokens}, got ${outputs}`);
  }
  if (slots % blockSize !== 0) {
    const hint = "The caches hold whole blocks: slots = number of blocks * blockSize.";
    throw new InputError(where, `slots: expected a multiple of blockSize = ${blockSize}, got ${slots}`, { hint });
  }
  if (blocks * blockSize > maxIndex) {
    throw new InputError(where, `blocks: expected at most ${Math.floor(maxIndex / blockSize)}, got ${blocks}`);
  }
}

/**
 * The caches of all layers in the order of the parameters and results of `step`. Latent attention keeps one row per
 * token, the normalised latent and the rotated rope key; grouped-query attention keeps rotated keys and values.
 */
export function cacheSpecs(config: ModelConfig, bucket: Pick<Bucket, "slots">): readonly CacheSpec[] {
  const layer = layerCacheSpecs(config, bucket);
  return config.feed_forward.flatMap((_, i) => layer.map((spec) => ({ ...spec, name: `${spec.name}.${i}` })));
}

/** The caches of one layer, named without its number. */
export function layerCacheSpecs({ attention }: ModelConfig, { slots }: Pick<Bucket, "slots">): readonly CacheSpec[] {
  const spec = (name: string, width: number): CacheSpec => ({ name, shape: [slots, width], dtype: "f32" });
  if (attention.kind === "mla") return [spec("cache", attention.kv_lora_rank + attention.qk_rope_head_dim)];
  const width = attention.num_key_value_heads * attention.head_dim;
  return [spec("key", width), spec("value", width)];
}
