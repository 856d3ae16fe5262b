/** Logits of given tokens: every position's prediction, for evaluation and comparison with other implementations. */
import { InputError } from "../../ir/errors.ts";
import { singleBatch } from "../steps/single-batch.ts";
import type { StepRunner } from "../steps/step.ts";

/** Logits [ids.length, vocab] of one sequence, computed in chunks of at most `chunk` tokens through the cache. */
export async function scoreTokens(
  runner: StepRunner,
  ids: ArrayLike<number>,
  chunk = runner.sizes.maxBatchTokens,
): Promise<Float32Array> {
  checkIds(runner, ids);
  const tokens = Int32Array.from(ids);
  const { sizes } = runner;
  const logits = new Float32Array(tokens.length * sizes.vocabSize);
  for (let start = 0; start < tokens.length; start += chunk) {
    const part = tokens.subarray(start, start + chunk);
    const found = await runner.step(singleBatch(sizes, part, { start, everyOutput: true }));
    logits.set(found, start * sizes.vocabSize);
  }
  return logits;
}

function checkIds(runner: StepRunner, ids: ArrayLike<number>): void {
  if (ids.length === 0) throw new InputError("token ids", "expected at least one token, got none");
  if (ids.length > runner.sizes.maxContext) {
    throw new InputError(
      "token ids",
      `expected at most ${runner.sizes.maxContext} tokens (the context), got ${ids.length}`,
    );
  }
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (!Number.isInteger(id) || id < 0 || id >= runner.sizes.vocabSize) {
      throw new InputError(
        `token ids[${i}]`,
        `expected a whole number from 0 to ${runner.sizes.vocabSize - 1}, got ${id}`,
      );
    }
  }
}
