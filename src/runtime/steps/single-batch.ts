/** Steps of one sequence that has the cache to itself, so that a token's row is its position: for scoring and for measuring. */
import type { RaggedBatch, RunnerSizes } from "./step.ts";

export interface SingleBatch {
  /** Position of the first token. Default 0. */
  readonly start?: number;
  /** Whether logits of every token are wanted. Default: of the last. */
  readonly everyOutput?: boolean;
  /** Blocks for so many tokens after these. */
  readonly more?: number;
}

export function singleBatch(
  { blockSize }: Pick<RunnerSizes, "blockSize">,
  tokens: Int32Array,
  { start = 0, everyOutput = false, more = 0 }: SingleBatch = {},
): RaggedBatch {
  const count = tokens.length;
  const range = Int32Array.from({ length: count }, (_, i) => i);
  const positions = range.map((i) => start + i);
  const blocks = Math.ceil((start + count + more) / blockSize);
  return {
    tokens,
    positions,
    sequence: new Int32Array(count),
    slots: positions,
    blockTables: [Int32Array.from({ length: blocks }, (_, i) => i)],
    outputs: everyOutput ? range : Int32Array.of(count - 1),
  };
}

/** Token ids all over the vocabulary, of which no two beginnings are the same. */
export function someTokens(count: number, vocabSize: number, seed = 0): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => ((i + 1) * 7919 + seed * 104_729) % vocabSize);
}
