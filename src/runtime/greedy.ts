/** Greedy continuation, several tokens to a run, in a cache apart from the requests'. */
import { InputError } from "../ir/errors.ts";
import type { ModelRunner } from "./model-runner.ts";

export interface GreedyOptions {
  /** Tokens of one run of the device. Default 8. */
  readonly tokensPerRun?: number;
}

/**
 * Yields the tokens that follow `prompt`, the most likely one each time, `count` in all, as runs give them. What ends a
 * text is for the caller to see.
 */
export async function* continueGreedily(
  runner: ModelRunner,
  prompt: ArrayLike<number>,
  count: number,
  { tokensPerRun = 8 }: GreedyOptions = {},
): AsyncGenerator<Int32Array> {
  const { blockSize, maxContext, maxBatchTokens } = runner;
  const tokens = Array.from(prompt);
  if (tokens.length === 0) throw new InputError("prompt", "empty: expected at least one token, got none");
  if (tokens.length + count > maxContext) {
    const what = `expected at most ${maxContext} tokens (the context), got ${tokens.length} and ${count} to follow`;
    throw new InputError("prompt", what);
  }
  const tableFor = (length: number) => Int32Array.from({ length: Math.ceil(length / blockSize) }, (_, i) => i);
  // All but the newest token go into the cache. Blocks are in order, so a token's cache row is its position.
  for (let start = 0; start < tokens.length - 1; start += maxBatchTokens) {
    const part = tokens.slice(start, Math.min(start + maxBatchTokens, tokens.length - 1));
    const positions = Int32Array.from(part, (_, i) => start + i);
    await runner.step({
      tokens: Int32Array.from(part),
      positions,
      sequence: new Int32Array(part.length),
      slots: positions,
      blockTables: [tableFor(start + part.length)],
      outputs: new Int32Array(),
    });
  }
  let [newest, position, left] = [tokens.at(-1)!, tokens.length - 1, count];
  while (left > 0) {
    // Always a whole run, so that one program serves; what is over is left out. A run may not go beyond the context.
    const wanted = Math.min(tokensPerRun, maxContext - position);
    const made = await runner.greedy(newest, position, tableFor(position + wanted), wanted);
    const used = made.subarray(0, left);
    yield used;
    [newest, position, left] = [used.at(-1)!, position + used.length, left - used.length];
  }
}
