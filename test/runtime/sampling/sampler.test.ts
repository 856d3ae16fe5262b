/** Sampling against plain definitions: each processor, the draw, the generator, and logits that no token may come from. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InternalError } from "../../../src/ir/errors.ts";
import {
  createScratch,
  type LogitsProcessor,
  logitBias,
  minP,
  outputPenalty,
  repetitionPenalty,
  type TokenHistory,
  temperature,
  topK,
  topP,
} from "../../../src/runtime/sampling/logits.ts";
import { splitMix64, uniformAt } from "../../../src/runtime/sampling/random.ts";
import { argmax, planSampling, sampleToken } from "../../../src/runtime/sampling/sampler.ts";
import { checkSampling, type SamplingOptions } from "../../../src/runtime/sampling/sampling-options.ts";

const noHistory: TokenHistory = { prompt: new Set(), output: new Map() };

/** Multiples of 1/4, so that ties are common and sums are far from rounding. */
const arbitraryLogits = fc
  .array(fc.oneof({ weight: 9, arbitrary: fc.integer({ min: -12, max: 12 }) }, fc.constant(Number.NEGATIVE_INFINITY)), {
    minLength: 1,
    maxLength: 40,
  })
  .map((values) => Float32Array.from(values, (value) => value / 4))
  .filter((logits) => logits.some((logit) => logit > -Infinity));

function run(processor: LogitsProcessor, logits: ArrayLike<number>, history = noHistory): number[] {
  const copy = Float32Array.from(logits);
  processor(copy, history, createScratch(copy.length));
  return [...copy];
}

/** Ids from most to least likely, lower ids first among equals. */
function ranked(logits: Float32Array): number[] {
  return [...logits.keys()].sort((a, b) => (logits[a] === logits[b] ? a - b : logits[b]! > logits[a]! ? 1 : -1));
}

function softmax(logits: ArrayLike<number>): number[] {
  const largest = Math.max(...Array.from(logits));
  const weights = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

function keep(logits: Float32Array, ids: readonly number[]): number[] {
  return Array.from(logits, (logit, id) => (ids.includes(id) ? logit : -Infinity));
}

function sample(logits: readonly number[], options: SamplingOptions, position = 0, history = noHistory): number {
  const sampling = planSampling(checkSampling({ seed: 1, ...options }, logits.length));
  return sampleToken(Float32Array.from(logits), sampling, history, position, createScratch(logits.length));
}

describe("processors", () => {
  test("top-k keeps exactly the k first in rank", () => {
    fc.assert(
      fc.property(arbitraryLogits, fc.integer({ min: 1, max: 45 }), (logits, k) => {
        expect(run(topK(k), logits)).toEqual(keep(logits, ranked(logits).slice(0, k)));
      }),
    );
  });

  test("top-p keeps the shortest head of the ranking that reaches p", () => {
    fc.assert(
      fc.property(arbitraryLogits, fc.integer({ min: 1, max: 99 }), (logits, percent) => {
        // Off the grid of sums that equal logits give (n/m), where rounding would decide.
        const p = percent / 100 + 0.00123;
        const probability = softmax(logits);
        const head: number[] = [];
        let reached = 0;
        for (const id of ranked(logits)) {
          if (reached < p) head.push(id);
          reached += probability[id]!;
        }
        expect(run(topP(p), logits)).toEqual(keep(logits, head));
      }),
    );
  });

  test("top-p keeps one token however small p is", () => {
    expect(run(topP(1e-9), [1, 3, 3, 2])).toEqual([-Infinity, 3, -Infinity, -Infinity]);
  });

  test("min-p keeps tokens at least that fraction as likely as the likeliest", () => {
    fc.assert(
      fc.property(arbitraryLogits, fc.integer({ min: 1, max: 99 }), (logits, percent) => {
        const probability = softmax(logits);
        const most = Math.max(...probability);
        const ids = [...logits.keys()].filter(
          (id) => probability[id]! >= (percent / 100) * most && logits[id]! > -Infinity,
        );
        expect(run(minP(percent / 100), logits)).toEqual(keep(logits, ids));
      }),
    );
  });

  test("temperature divides, whatever its size", () => {
    const logits = [1, 2.5, -Infinity, -3];
    // float32 logits: relative error 2^-23 each.
    const halved = softmax(logits.map((logit) => logit / 2));
    for (const [id, p] of softmax(run(temperature(2), logits)).entries()) expect(p).toBeCloseTo(halved[id]!, 6);
    for (const tiny of [1e-30, 1e-300, Number.MIN_VALUE])
      expect(softmax(run(temperature(tiny), logits))).toEqual([0, 1, 0, 0]);
    expect(softmax(run(temperature(1e300), logits))[2]).toBe(0);
  });

  test("penalties: repetition over prompt and output once each, the others over the output by count", () => {
    const history = {
      prompt: new Set([0, 1]),
      output: new Map([
        [1, 3],
        [2, 1],
      ]),
    };
    expect(run(repetitionPenalty(2), [4, -4, 2, 2], history)).toEqual([2, -8, 1, 2]);
    expect(run(outputPenalty(0.5, 0.25), [4, 4, 4, 4], history)).toEqual([4, 2.75, 3.25, 4]);
    expect(
      run(
        logitBias(
          new Map([
            [3, -100],
            [0, 1],
          ]),
        ),
        [1, 1, 1, 1],
      ),
    ).toEqual([2, 1, 1, -99]);
  });
});

describe("choosing", () => {
  test("temperature 0 and top-k 1 take the largest logit, the lowest id among equals", () => {
    fc.assert(
      fc.property(arbitraryLogits, fc.integer(), (logits, seed) => {
        const best = ranked(logits)[0]!;
        expect(argmax(logits)).toBe(best);
        expect(sample([...logits], { temperature: 0, topP: 0.3, seed })).toBe(best);
        expect(sample([...logits], { topK: 1, temperature: 3, seed })).toBe(best);
      }),
    );
  });

  test("greedy heeds bias and penalties", () => {
    expect(sample([1, 2, 3], { temperature: 0, logitBias: { 0: 5 } })).toBe(0);
    expect(
      sample([1, 2, 3], { temperature: 0, repetitionPenalty: 10 }, 0, { prompt: new Set([2]), output: new Map() }),
    ).toBe(1);
  });

  test("top-k above the vocabulary changes nothing", () => {
    for (let position = 0; position < 50; position++)
      expect(sample([1, 2, 3, 0], { topK: 1000 }, position)).toBe(sample([1, 2, 3, 0], {}, position));
  });

  test("frequencies follow the softmax of what is kept", () => {
    const logits = [0, 1, 2, -1, 1.5, -Infinity];
    const options = { temperature: 0.8, topK: 4, minP: 0.05 };
    const kept = softmax([0, 1, 2, -Infinity, 1.5, -Infinity].map((logit) => logit / 0.8));
    const draws = 20_000;
    const counts = new Array<number>(6).fill(0);
    for (let position = 0; position < draws; position++) counts[sample(logits, { ...options, seed: 7 }, position)]!++;
    // Pearson's statistic with 3 degrees of freedom; 16.3 is its 0.999 quantile. The seed is fixed, so this cannot flicker.
    const statistic = kept.reduce(
      (sum, p, id) => (p === 0 ? sum : sum + (counts[id]! - p * draws) ** 2 / (p * draws)),
      0,
    );
    expect(statistic).toBeLessThan(16.3);
    expect(counts[3]! + counts[5]!).toBe(0);
  });

  test("a token depends on seed and position, and on nothing before", () => {
    const flat = new Array<number>(1000).fill(0);
    const forward = Array.from({ length: 20 }, (_, position) => sample(flat, { seed: 3 }, position));
    const backward = Array.from({ length: 20 }, (_, i) => sample(flat, { seed: 3 }, 19 - i)).reverse();
    expect(backward).toEqual(forward);
    expect(new Set(forward).size).toBeGreaterThan(15);
    expect(sample(flat, { seed: 4 }, 0)).not.toBe(forward[0]);
  });
});

describe("logits that no token may come from", () => {
  const cases: [string, number[]][] = [
    ["NaN", [1, Number.NaN, 2]],
    ["+Infinity", [1, Number.POSITIVE_INFINITY]],
    ["nothing but -Infinity", [-Infinity, -Infinity]],
  ];
  test.each(cases)("%s", (_name, logits) => {
    for (const options of [{ temperature: 0 }, {}, { topK: 1 }, { topP: 0.5, temperature: 2 }])
      expect(() => sample(logits, options)).toThrow(InternalError);
  });

  test("penalties that overflow", () => {
    const history = { prompt: new Set([0]), output: new Map() };
    expect(() => sample([3e38, 1], { repetitionPenalty: 1e-3 }, 0, history)).toThrow(/left by the logits processors/);
  });
});

describe("random numbers", () => {
  test("SplitMix64 gives the published sequence of state 1234567", () => {
    expect(Array.from({ length: 5 }, (_, i) => splitMix64(1234567n, i))).toEqual([
      6457827717110365317n,
      3203168211198807973n,
      9817491932198370423n,
      4593380528125082431n,
      16408922859458223821n,
    ]);
  });

  test("numbers lie in [0, 1), spread evenly, and differ for neighbouring seeds", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.maxSafeNat(), (seed, counter) => {
        const u = uniformAt(seed, Math.min(counter, 2 ** 52));
        expect(u >= 0 && u < 1).toBe(true);
      }),
    );
    const mean = Array.from({ length: 10_000 }, (_, i) => uniformAt(i - 5000, 0)).reduce((a, b) => a + b) / 10_000;
    // Standard error 0.0029; five of them.
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.015);
  });
});
