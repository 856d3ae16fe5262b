/**
 * Decoding several steps without waiting: the device samples, and feeds the next step itself. What the runner offers for
 * it, and what of sampling it can do. Anything else is sampled here, step by step.
 */
import { inPrompt } from "../../models/sampling/penalties.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import type { TokenHistory } from "../sampling/logits.ts";
import { uniformAt } from "../sampling/random.ts";
import type { Sampling } from "../sampling/sampler.ts";
import type { AheadRow } from "../steps/step.ts";

/** Whether a device's sampler can choose as these options say: all but biases of single tokens. */
export function samplesAhead({ options }: Sampling): boolean {
  return options.logitBias.size === 0;
}

/** Whether tokens that were seen are less likely, or more. */
export function penalises({ options: { repetitionPenalty, presencePenalty, frequencyPenalty } }: Sampling): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** Writes into a row of `counts`, zeros all, what a sequence has seen. */
export function writeCounts(counts: Float32Array, { prompt, output }: TokenHistory): void {
  for (const [id, count] of output) counts[id] = count;
  for (const id of prompt) counts[id]! += inPrompt;
}

/** What the sampler of all these rows has to do. */
export function samplerKind(rows: readonly AheadRow[]): SamplerKind {
  const drawing = rows.map(({ sampling }) => sampling).filter(({ greedy }) => !greedy);
  return {
    draws: drawing.length > 0,
    topK: drawing.some(({ options }) => options.topK !== null),
    topP: drawing.some(({ options }) => options.topP !== null && options.topP < 1),
    penalties: rows.some(({ sampling }) => penalises(sampling)),
  };
}

/** Never reached: keeps everything. */
const neutral = { topK: 1e30, topP: 1e30, floor: -1e30 };

/** A row that only fills up a bucket: nothing is asked of it. */
export const emptyRow: readonly number[] = [1, 0, neutral.topK, neutral.topP, 1, 0, 0];

/** A row of the sampler's options. Greedy is a draw, by the number 0, from what is as likely as the likeliest. */
export function samplerRow({ greedy, options }: Sampling): readonly number[] {
  const { temperature, minP, topK, topP, repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  const penalties = [repetitionPenalty, presencePenalty, frequencyPenalty];
  if (greedy) return [1, 0, neutral.topK, neutral.topP, ...penalties];
  return [
    temperature,
    minP === null || minP === 0 ? neutral.floor : Math.log(minP),
    topK ?? neutral.topK,
    topP === null || topP >= 1 ? neutral.topP : topP,
    ...penalties,
  ];
}

/** The random number of a row's token at `position`, as f32 below 1. */
export function uniformOf({ greedy, seed }: Sampling, position: number): number {
  return greedy ? 0 : Math.min(Math.fround(uniformAt(seed, position)), 1 - 2 ** -24);
}
