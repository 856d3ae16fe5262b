/** The sizes that loading a model takes as options, and what they are if nobody says. */
import { InputError } from "../ir/errors.ts";
import { cacheSpecs } from "../models/deepseek/bucket.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import type { BucketLimits } from "./bucket-ladder.ts";

export interface LimitOptions {
  /** Longest sequence in tokens, prompt and answer. Default: what the model allows, at most 4096. */
  readonly contextLength?: number | undefined;
  /** Most sequences computed at once. Default 8. */
  readonly maxSequences?: number | undefined;
  /** Most tokens computed at once; longer prompts are computed in chunks. Default 128. */
  readonly maxBatchTokens?: number | undefined;
  /** Memory for the caches in bytes; at least one sequence always fits. Default 512 MiB. */
  readonly cacheBytes?: number | undefined;
}

const blockSize = 16;
export const maxConfigBytes = 1_000_000;

/** What a model is compiled for at most. @throws InputError for a size that makes no sense */
export function limitsOf(config: ModelConfig, options: LimitOptions): BucketLimits {
  const most = config.max_position_embeddings;
  const context = sizeOption(options.contextLength, "contextLength", Math.min(most, 4096), most);
  const tokens = sizeOption(options.maxBatchTokens, "maxBatchTokens", 128, 8192);
  const sequences = Math.min(sizeOption(options.maxSequences, "maxSequences", 8, 1024), tokens);
  const blocks = Math.ceil(context / blockSize);
  const perBlock = cacheSpecs(config, { slots: blockSize }).reduce(
    (sum, { shape }) => sum + 4 * shape[0]! * shape[1]!,
    0,
  );
  const budget = sizeOption(options.cacheBytes, "cacheBytes", 512 * 2 ** 20, Number.MAX_SAFE_INTEGER);
  const numBlocks = Math.max(blocks, Math.min(sequences * blocks, Math.floor(budget / perBlock)));
  return { tokens, sequences, blocks, outputs: tokens, blockSize, slots: numBlocks * blockSize, ropeRows: context };
}

function sizeOption(value: number | undefined, name: string, fallback: number, most: number): number {
  if (value === undefined) return fallback;
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new InputError(`loadModel ${name}`, `expected a whole number from 1 to ${most}, got ${value}`);
  }
  return value;
}
