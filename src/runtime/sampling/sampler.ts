/** From one row of logits to one token: checks, processors, then the largest logit or a draw. */

import { InternalError } from "../../ir/errors.ts";
import { type LogitsProcessor, type LogitsScratch, logitsProcessors, maximum, type TokenHistory } from "./logits.ts";
import { randomSeed, uniformAt } from "./random.ts";
import type { CheckedSampling } from "./sampling-options.ts";

/** What a request's options mean for every one of its tokens. */
export interface Sampling {
  readonly options: CheckedSampling;
  readonly greedy: boolean;
  readonly seed: number;
  readonly processors: readonly LogitsProcessor[];
}

/** A missing seed is drawn here, once per request. */
export function planSampling(options: CheckedSampling): Sampling {
  return {
    options,
    greedy: options.temperature === 0,
    seed: options.seed ?? randomSeed(),
    processors: logitsProcessors(options),
  };
}

/**
 * The token at `position` of a sequence, from its logits [vocab], which are overwritten. The choice depends on nothing but the
 * arguments: the random number is that of (seed, position), so a sequence replayed from its tokens continues as it would have.
 * Throws InternalError on NaN, +Infinity, or when every logit is -Infinity: a model that gives those is broken, and a token
 * drawn from them would hide it.
 */
export function sampleToken(
  logits: Float32Array,
  sampling: Sampling,
  history: TokenHistory,
  position: number,
  scratch: LogitsScratch,
): number {
  checkLogits(logits, "given by the model");
  for (const process of sampling.processors) process(logits, history, scratch);
  if (sampling.processors.length > 0) checkLogits(logits, "left by the logits processors");
  return sampling.greedy ? argmax(logits) : draw(logits, uniformAt(sampling.seed, position));
}

/** The id of the largest logit, the lowest among equals. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Inverse of the cumulative softmax at u in [0, 1), tokens in order of id. Sums in float64. */
function draw(logits: Float32Array, u: number): number {
  const largest = maximum(logits);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - largest);
  const target = u * total;
  let reached = 0;
  let last = 0;
  for (let i = 0; i < logits.length; i++) {
    const weight = Math.exp(logits[i]! - largest);
    if (weight === 0) continue;
    reached += weight;
    last = i;
    if (reached > target) break;
  }
  return last;
}

function checkLogits(logits: Float32Array, source: string): void {
  let finite = false;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    if (logit > -Infinity && logit < Infinity) finite = true;
    else if (logit !== -Infinity)
      throw new InternalError("sampler", `bad logit ${source} for token ${i}: expected a finite number, got ${logit}`);
  }
  if (!finite) throw new InternalError("sampler", `no token left: every logit ${source} is -Infinity`);
}
