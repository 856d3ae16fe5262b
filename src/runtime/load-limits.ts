/** The sizes that loading a model takes as options, and what they are if nobody says. */
import type { Device } from "../compile.ts";
import { InputError } from "../ir/errors.ts";
import { cacheSpecs } from "../models/deepseek/bucket.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import type { BucketLimits } from "./engine/bucket-ladder.ts";

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

/** Ops that run as they are compute all keys that a bucket holds. */
const tensorDecodeBlocks = 8;

/**
 * What a model is compiled for at most; `device` is null where nothing is compiled.
 * @throws InputError for a size that makes no sense
 */
export function limitsOf(config: ModelConfig, options: LimitOptions, device: Device | null): BucketLimits {
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
  const sizes = { tokens, sequences, blocks, outputs: tokens, blockSize, slots: numBlocks * blockSize };
  const asOps = device?.target.level === "tensor";
  return { ...sizes, ropeRows: context, ...(asOps && { decodeBlocks: tensorDecodeBlocks }) };
}

function sizeOption(value: number | undefined, name: string, fallback: number, most: number): number {
  if (value === undefined) return fallback;
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new InputError(`loadModel ${name}`, `expected a whole number from 1 to ${most}, got ${value}`);
  }
  return value;
}
