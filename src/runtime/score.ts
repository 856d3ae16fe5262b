/** Logits of given tokens: every position's prediction, for evaluation and comparison with other implementations. */
import { InputError } from "../ir/errors.ts";
import { singleBatch } from "./single-batch.ts";
import type { StepRunner } from "./step.ts";

/** Logits [ids.length, vocab] of one sequence, computed in chunks of at most `chunk` tokens through the cache. */
export async function scoreTokens(
  runner: StepRunner,
  ids: ArrayLike<number>,
  chunk = runner.maxBatchTokens,
): Promise<Float32Array> {
  checkIds(runner, ids);
  const tokens = Int32Array.from(ids);
  const logits = new Float32Array(tokens.length * runner.vocabSize);
  for (let start = 0; start < tokens.length; start += chunk) {
    const count = Math.min(chunk, tokens.length - start);
    const chunkTokens = tokens.subarray(start, start + count);
    const part = await runner.step(singleBatch(runner, chunkTokens, { start, everyOutput: true }));
    logits.set(part, start * runner.vocabSize);
  }
  return logits;
}

function checkIds(runner: StepRunner, ids: ArrayLike<number>): void {
  if (ids.length === 0) throw new InputError("token ids", "expected at least one token, got none");
  if (ids.length > runner.maxContext) {
    throw new InputError("token ids", `expected at most ${runner.maxContext} tokens (the context), got ${ids.length}`);
  }
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (!Number.isInteger(id) || id < 0 || id >= runner.vocabSize) {
      throw new InputError(`token ids[${i}]`, `expected a whole number from 0 to ${runner.vocabSize - 1}, got ${id}`);
    }
  }
}
