/**
 * The compiled model as the runtime sees it: one function that runs a ragged step, plus the sizes it was compiled for.
 * Ragged: the tokens of several sequences, of different lengths, lie one after another in flat arrays.
 */

import { InternalError } from "../../ir/errors.ts";
import type { TokenHistory } from "../sampling/logits.ts";
import type { Sampling } from "../sampling/sampler.ts";

/**
 * One ragged step: n tokens of b sequences. All arrays are unpadded; the runner pads to a bucket.
 * The tokens of one sequence are contiguous and in order of position. The arrays are views of buffers that the next step
 * overwrites: a runner that keeps them must copy.
 */
export interface RaggedBatch {
  /** [n] token ids. */
  readonly tokens: Int32Array;
  /** [n] position of each token in its sequence, from 0. */
  readonly positions: Int32Array;
  /** [n] which sequence each token belongs to: an index into `blockTables`. */
  readonly sequence: Int32Array;
  /** [n] the cache row each token is written to: `block * blockSize + position % blockSize`. */
  readonly slots: Int32Array;
  /** [b] per sequence: block ids, block i holding positions `i * blockSize` and following. */
  readonly blockTables: readonly Int32Array[];
  /** [o] indices into n whose logits are wanted. */
  readonly outputs: Int32Array;
}

/** A sequence that decodes: how its tokens are chosen, and the position of the next. */
export interface AheadRow {
  readonly sampling: Sampling;
  readonly position: number;
  /** What the sequence has seen, which penalties ask for. Default: nothing. */
  readonly history?: TokenHistory;
}

/** A runner's way to decode ahead. */
export interface AheadRunner {
  /** Most steps that `queue` takes. */
  readonly maxSteps: number;
  /**
   * Prepares a run of steps on one token of each row; `batch.blockTables` have blocks for all of them. Steps and runs do not
   * overlap with others of the runner.
   */
  start(batch: RaggedBatch, rows: readonly AheadRow[]): Promise<AheadRun>;
}

export interface AheadRun {
  /**
   * Runs the next steps after those queued before; more may be queued before they are done. Gives ids [steps, rows], -1
   * where logits were no numbers.
   */
  queue(steps: number): Promise<Int32Array>;
}

/** What steps may hold. */
export interface RunnerSizes {
  readonly vocabSize: number;
  /** Cache rows per block. */
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Tokens per sequence. */
  readonly maxContext: number;
  /** Tokens per step. */
  readonly maxBatchTokens: number;
  /** Sequences per step. */
  readonly maxSequences: number;
}

/** A loaded model with its paged cache. Calls to `step` overlap only as `overlap` says. */
export interface StepRunner {
  readonly sizes: RunnerSizes;
  /**
   * Runs the step; gives logits [o, vocabSize], which the caller may overwrite and which the next step may reuse. Rejects
   * when the signal aborts, in the middle if it can; what the step was to write to the cache is then undefined.
   */
  step(batch: RaggedBatch, signal?: AbortSignal): Promise<Float32Array>;
  /**
   * How many steps without outputs may be under way at once, the last of them one with outputs; they are computed in the order
   * in which they are asked for. Default 1.
   */
  readonly overlap?: number | undefined;
  /** Where the device can sample, and decode without being waited for. */
  readonly ahead?: AheadRunner | undefined;
}

/** A batch of its own memory. */
export function copyOf({ tokens, positions, sequence, slots, blockTables, outputs }: RaggedBatch): RaggedBatch {
  return {
    tokens: tokens.slice(),
    positions: positions.slice(),
    sequence: sequence.slice(),
    slots: slots.slice(),
    blockTables: blockTables.map((table) => table.slice()),
    outputs: outputs.slice(),
  };
}

/** @throws InternalError where a step gave other than `outputs` rows. */
export function checkLogits(logits: Float32Array, outputs: number, vocabSize: number): void {
  const expected = outputs * vocabSize;
  if (logits.length === expected) return;
  throw new InternalError(
    "step",
    `wrong number of logits: expected ${expected} (${outputs} rows), got ${logits.length}`,
  );
}
