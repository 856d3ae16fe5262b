/** The steps that are measured: tokens of one sequence, and one token of each of several. */
import type { ModelRunner } from "../../src/runtime/steps/model-runner.ts";
import { singleBatch, someTokens } from "../../src/runtime/steps/single-batch.ts";
import type { RaggedBatch } from "../../src/runtime/steps/step.ts";

/** A step of `count` tokens of one sequence from position `start`; the logits after the last. */
export async function runTokens(runner: ModelRunner, start: number, count: number): Promise<Float32Array> {
  const logits = await runner.step(batchOf(runner, start, count));
  if (!Number.isFinite(logits[0])) throw new Error(`the logits are not finite: ${logits[0]}`);
  return logits;
}

/** With blocks for `more` tokens. */
export function batchOf(runner: ModelRunner, start: number, count: number, more = 0): RaggedBatch {
  return singleBatch(runner.sizes, someTokens(count, runner.sizes.vocabSize), { start, more });
}

/** A token of each of several sequences, with blocks for `more` tokens. */
export function batchTogether(
  { sizes: { blockSize, vocabSize } }: ModelRunner,
  { context, sequences }: { readonly context: number; readonly sequences: number },
  more: number,
): RaggedBatch {
  const numbers = Int32Array.from({ length: sequences }, (_, i) => i);
  const blocks = Math.ceil((context + more) / blockSize);
  return {
    tokens: numbers.map((i) => (i * 7919) % vocabSize),
    positions: numbers.map(() => context - 1),
    sequence: numbers,
    slots: numbers.map((i) => i * blocks * blockSize + context - 1),
    blockTables: [...numbers].map((i) => Int32Array.from({ length: blocks }, (_, j) => i * blocks + j)),
    outputs: numbers,
  };
}
