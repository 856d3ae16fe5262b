/**
 * Decoding several steps without waiting: the device samples, and feeds the next step itself. What the runner offers for
 * it, and what of sampling it can do. Anything else is sampled here, step by step.
 */
import type { SamplerKind } from "../models/sampling/sample.ts";
import { uniformAt } from "./random.ts";
import type { Sampling } from "./sampler.ts";
import type { AheadRow } from "./step.ts";

/** Whether a device's sampler can choose as these options say: no penalties, no biases, which change as tokens come. */
export function samplesAhead({ options }: Sampling): boolean {
  const { logitBias, repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  return logitBias.size === 0 && repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
}

/** What the sampler of all these rows has to do. */
export function samplerKind(rows: readonly AheadRow[]): SamplerKind {
  const drawing = rows.map(({ sampling }) => sampling).filter(({ greedy }) => !greedy);
  return {
    draws: drawing.length > 0,
    topK: drawing.some(({ options }) => options.topK !== null),
    topP: drawing.some(({ options }) => options.topP !== null && options.topP < 1),
  };
}

/** Never reached: keeps everything. */
const neutral = { topK: 1e30, topP: 2, floor: -1e30 };

/** A row of the sampler's options. Greedy is a draw, by the number 0, from what is as likely as the likeliest. */
export function samplerRow({ greedy, options }: Sampling): readonly number[] {
  if (greedy) return [1, 0, neutral.topK, neutral.topP];
  const { temperature, minP, topK, topP } = options;
  return [
    temperature,
    minP === null || minP === 0 ? neutral.floor : Math.log(minP),
    topK ?? neutral.topK,
    topP === null || topP >= 1 ? neutral.topP : topP,
  ];
}

/** The random number of a row's token at `position`, as f32 below 1. */
export function uniformOf({ greedy, seed }: Sampling, position: number): number {
  return greedy ? 0 : Math.min(Math.fround(uniformAt(seed, position)), 1 - 2 ** -24);
}
