/** The sizes that steps are compiled for: few enough to compile seldom, close enough to waste little on padding. */
import { invariant } from "../../ir/errors.ts";
import type { Bucket } from "../../models/deepseek/bucket.ts";
import type { RaggedBatch, RunnerSizes } from "../steps/step.ts";

/** What one step needs. */
export interface StepSize {
  readonly tokens: number;
  readonly sequences: number;
  /** Blocks of the longest sequence. */
  readonly blocks: number;
  readonly outputs: number;
}

/** The most a step can need, and the sizes that are the same in all buckets. */
export interface BucketLimits extends StepSize {
  readonly blockSize: number;
  readonly slots: number;
  readonly ropeRows: number;
  /** Blocks of the smallest bucket for decoding. Default 32. */
  readonly decodeBlocks?: number;
}

/** Of other steps: a prompt's keys may be made of all cached tokens that its bucket holds. */
const fewestBlocks = 8;
/** A bucket takes some 200 ms to compile, in the middle of an answer, so that the first should do for most. */
const decodeBlocks = 32;

/**
 * The smallest bucket for a step. Tokens and outputs go up by halves of powers of two (1, 2, 4, 8, 12, 16, 24, ...), since
 * padding costs time; context goes up fourfold, since kernels stop at each token's position, for steps of one token a
 * sequence from more blocks on. Throws InternalError for a
 * step beyond the limits: the scheduler makes none.
 */
export function bucketFor(size: StepSize, limits: BucketLimits): Bucket {
  for (const name of ["tokens", "sequences", "blocks", "outputs"] as const) {
    const [wanted, most] = [size[name], limits[name]];
    invariant(wanted <= most, () => `${name}: expected at most ${most}, got ${wanted}`, "step");
  }
  const { blockSize, slots, ropeRows } = limits;
  const tokens = Math.min(roundUp(size.tokens), limits.tokens);
  const least = size.tokens <= size.sequences ? (limits.decodeBlocks ?? decodeBlocks) : fewestBlocks;
  return {
    tokens,
    sequences: Math.min(powerOf(2, size.sequences), limits.sequences, tokens),
    blocks: Math.min(least * powerOf(4, Math.ceil(size.blocks / least)), limits.blocks),
    outputs: Math.min(roundUp(size.outputs), limits.outputs, tokens),
    blockSize,
    slots,
    ropeRows,
  };
}

/** What the steps of a model with this vocabulary may hold. */
export function runnerSizes(vocabSize: number, limits: BucketLimits): RunnerSizes {
  return {
    vocabSize,
    blockSize: limits.blockSize,
    numBlocks: limits.slots / limits.blockSize,
    maxContext: limits.ropeRows,
    maxBatchTokens: limits.tokens,
    maxSequences: limits.sequences,
  };
}

/** What a batch needs. A step that only fills the cache still computes one row of logits. */
export function stepSizeOf({ tokens, blockTables, outputs }: RaggedBatch): StepSize {
  return {
    tokens: tokens.length,
    sequences: blockTables.length,
    blocks: Math.max(...blockTables.map((table) => table.length)),
    outputs: Math.max(outputs.length, 1),
  };
}

export function bucketKey({ tokens, sequences, blocks, outputs }: Bucket): string {
  return `${tokens},${sequences},${blocks},${outputs}`;
}

/** The smallest power of `base` that is at least `x`. */
function powerOf(base: number, x: number): number {
  let power = 1;
  while (power < x) power *= base;
  return power;
}

function roundUp(x: number): number {
  const power = powerOf(2, x);
  return power >= 16 && x <= (power / 4) * 3 ? (power / 4) * 3 : power;
}
