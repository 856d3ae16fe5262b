/** The sampler as tensor ops against the one in doubles: the same tokens but where rounding decides. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { maths } from "../../../src/ir/build.ts";
import { Builder, type Func, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { tensorFrom } from "../../../src/ir/tensor.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { resolution, type SamplerKind, sampleTokens } from "../../../src/models/sampling/sample.ts";
import { samplerKind, samplerRow, samplesAhead, uniformOf } from "../../../src/runtime/ahead.ts";
import { createScratch } from "../../../src/runtime/logits.ts";
import { planSampling, type Sampling, sampleToken } from "../../../src/runtime/sampler.ts";
import { checkSampling, type SamplingOptions } from "../../../src/runtime/sampling-options.ts";

const history = { prompt: new Set<number>(), output: new Map<number, number>() };

function ours(kind: SamplerKind, rows: readonly { logits: number[]; options: readonly number[]; uniform: number }[]) {
  const builder = new Builder();
  const m = maths(builder);
  const [n, v] = [rows.length, rows[0]!.logits.length];
  const logits = builder.param("logits", "f32", [n, v]);
  const uniform = builder.param("uniform", "f32", [n]);
  const options = builder.param("options", "f32", [n, 4]);
  const func: Func = {
    name: "main",
    params: [logits, uniform, options],
    outs: [sampleTokens(m, kind, { logits, uniform, options })],
  };
  const floats = (shape: readonly number[], values: readonly number[]) =>
    tensorFrom(tensorType("f32", shape), Float32Array.from(values));
  const inputs = [
    floats(
      [n, v],
      rows.flatMap((row) => row.logits),
    ),
    floats(
      [n],
      rows.map((row) => row.uniform),
    ),
    floats(
      [n, 4],
      rows.flatMap((row) => row.options),
    ),
  ];
  return [...interpret(makeModule("sampler", [func], "main"), inputs)[0]!.data];
}

const samplingOf = (options: SamplingOptions, vocab: number): Sampling => planSampling(checkSampling(options, vocab));

function theirs(logits: readonly number[], sampling: Sampling, position = 7): number {
  return sampleToken(Float32Array.from(logits), sampling, history, position, createScratch(logits.length));
}

const sizes = [1, 2, 7, 50, 97, 128, 257, 600];

test("the largest logit, the lowest id of equals, in vocabularies of any size", () => {
  const kind = { draws: false, topK: false, topP: false };
  const arbLogits = fc
    .constantFrom(...sizes)
    .chain((v) => fc.array(fc.integer({ min: -4, max: 3 }), { minLength: v, maxLength: v }));
  fc.assert(
    fc.property(arbLogits, (logits) => {
      const sampling = samplingOf({ temperature: 0 }, logits.length);
      const row = { logits, options: samplerRow(sampling), uniform: 0.5 };
      expect(ours(kind, [row, row])).toEqual([theirs(logits, sampling), theirs(logits, sampling)]);
    }),
    { numRuns: 60 },
  );
});

describe("logits that are no numbers", () => {
  const options = [1, -1e30, 1e30, 2];
  test.each([
    ["NaN", [1, Number.NaN, 2, 0]],
    ["infinity", [1, 0, Number.POSITIVE_INFINITY, 0]],
    ["nothing left", [1, 2, 3, 4].map(() => Number.NEGATIVE_INFINITY)],
  ])("%s", (_, logits) => {
    for (const draws of [false, true])
      expect(ours({ draws, topK: false, topP: false }, [{ logits, options, uniform: 0.3 }])).toEqual([-1]);
  });

  test("-Infinity is a token that never comes", () => {
    const logits = [Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY, 0.5];
    const at = (uniform: number) => ours({ draws: true, topK: false, topP: false }, [{ logits, options, uniform }])[0];
    expect([0, 0.5, 0.7, 1 - 2 ** -24].map(at)).toEqual([1, 1, 3, 3]);
  });
});

const arbCase = fc.record({
  vocab: fc.constantFrom(2, 7, 50, 97, 128),
  seed: fc.integer(),
  spread: fc.constantFrom(0.5, 3, 12),
  temperature: fc.constantFrom(0, 0.1, 0.6, 1, 1.7),
  topK: fc.constantFrom(undefined, 1, 3, 40),
  topP: fc.constantFrom(undefined, 0.1, 0.9, 0.95, 1),
  minP: fc.constantFrom(undefined, 0.05, 0.5),
});

/** Logits that look like a model's: all different. */
function logitsOf(vocab: number, seed: number, spread: number): number[] {
  let state = seed | 1;
  return Array.from({ length: vocab }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return Math.fround((state / 2 ** 31) * spread);
  });
}

test("draws as the sampler in doubles does, but where two cuts or sums are nearer than rounding", () => {
  let [same, all] = [0, 0];
  fc.assert(
    fc.property(fc.array(arbCase, { minLength: 1, maxLength: 3 }), fc.nat(50), (cases, position) => {
      const vocab = cases[0]!.vocab;
      const rows = cases.map(({ seed, spread, temperature, topK, topP, minP }) => {
        const sampling = samplingOf({ seed, temperature, topK, topP, minP }, vocab);
        return { logits: logitsOf(vocab, seed, spread), sampling, position };
      });
      const found = ours(
        { ...samplerKind(rows), draws: true },
        rows.map(({ logits, sampling }) => {
          return { logits, options: samplerRow(sampling), uniform: uniformOf(sampling, position) };
        }),
      );
      for (const [i, { logits, sampling }] of rows.entries()) {
        all++;
        if (found[i] === theirs(logits, sampling, position)) same++;
      }
    }),
    { numRuns: 120 },
  );
  // A draw is wrong by chance as often as a random number falls between two sums that differ by rounding.
  expect(all - same).toBeLessThanOrEqual(Math.ceil(all * 20 * resolution));
});

test("what a device's sampler cannot do is said to be so", () => {
  const ahead = (options: SamplingOptions) => samplesAhead(samplingOf(options, 10));
  expect(ahead({ temperature: 0.6, topP: 0.95, topK: 3, minP: 0.1 })).toBe(true);
  expect(ahead({ repetitionPenalty: 1.1 })).toBe(false);
  expect(ahead({ presencePenalty: 1 })).toBe(false);
  expect(ahead({ frequencyPenalty: 1 })).toBe(false);
  expect(ahead({ logitBias: { 3: 1 } })).toBe(false);
});
