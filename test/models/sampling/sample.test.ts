/** The sampler as tensor ops against the one in doubles: the same tokens but where rounding decides. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileToPlan } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, type Func, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { planTotals } from "../../../src/ir/plan.ts";
import { leastWebGpu, webgpuTarget, webgpuTargetOf } from "../../../src/ir/target.ts";
import { tensorFrom } from "../../../src/ir/tensor.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { countTokens } from "../../../src/models/sampling/penalties.ts";
import { type SamplerKind, samplerColumns, sampleTokens } from "../../../src/models/sampling/sample.ts";
import {
  emptyRow,
  samplerKind,
  samplerRow,
  samplesAhead,
  uniformOf,
  writeCounts,
} from "../../../src/runtime/engine/ahead.ts";
import { createScratch, type TokenHistory } from "../../../src/runtime/sampling/logits.ts";
import { planSampling, type Sampling, sampleToken } from "../../../src/runtime/sampling/sampler.ts";
import { checkSampling, type SamplingOptions } from "../../../src/runtime/sampling/sampling-options.ts";
import { runPlan } from "../../arb/run-plan.ts";

const nothing: TokenHistory = { prompt: new Set<number>(), output: new Map<number, number>() };

interface Row {
  readonly logits: readonly number[];
  readonly options: readonly number[];
  readonly uniform: number;
  readonly history?: TokenHistory;
}

/** `run` computes the module's results; the interpreter's are its meaning. */
function ours(kind: SamplerKind, rows: readonly Row[], run: typeof interpret = interpret) {
  const builder = new Builder();
  const m = maths(builder);
  const [n, v] = [rows.length, rows[0]!.logits.length];
  const logits = builder.param("logits", "f32", [n, v]);
  const uniform = builder.param("uniform", "f32", [n]);
  const options = builder.param("options", "f32", [n, samplerColumns.length]);
  const counts = builder.param("counts", "f32", [n, v]);
  const func: Func = {
    name: "main",
    params: [logits, uniform, options, counts],
    outs: [sampleTokens(m, kind, { logits, uniform, options, ...(kind.penalties && { counts }) })],
  };
  const seen = rows.flatMap(({ history = nothing }) => {
    const row = new Float32Array(v);
    writeCounts(row, history);
    return [...row];
  });
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
      [n, samplerColumns.length],
      rows.flatMap((row) => row.options),
    ),
    floats([n, v], seen),
  ];
  return [...run(makeModule("sampler", [func], "main"), inputs)[0]!.data];
}

const samplingOf = (options: SamplingOptions, vocab: number): Sampling => planSampling(checkSampling(options, vocab));

function theirs(logits: readonly number[], sampling: Sampling, position = 7, history = nothing): number {
  return sampleToken(Float32Array.from(logits), sampling, history, position, createScratch(logits.length));
}

const sizes = [1, 2, 7, 50, 97, 128, 257, 600];

test("the largest logit, the lowest id of equals, in vocabularies of any size", () => {
  const kind = { draws: false, topK: false, topP: false, penalties: false };
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
  const options = [1, -1e30, 1e30, 2, 1, 0, 0];
  test.each([
    ["NaN", [1, Number.NaN, 2, 0]],
    ["infinity", [1, 0, Number.POSITIVE_INFINITY, 0]],
    ["nothing left", [1, 2, 3, 4].map(() => Number.NEGATIVE_INFINITY)],
  ])("%s", (_, logits) => {
    for (const draws of [false, true])
      expect(ours({ draws, topK: false, topP: false, penalties: false }, [{ logits, options, uniform: 0.3 }])).toEqual([
        -1,
      ]);
  });

  test("-Infinity is a token that never comes", () => {
    const logits = [Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY, 0.5];
    const kind = { draws: true, topK: false, topP: false, penalties: false };
    const at = (uniform: number) => ours(kind, [{ logits, options, uniform }])[0];
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
  // A draw is wrong by chance as often as a random number falls between two sums that differ by rounding, one in 2^20 or so.
  expect(all - same).toBeLessThanOrEqual(1);
});

/** Many equal logits, all and their differences exact at these temperatures, so that cuts fall among equals. */
const arbTies = fc.record({
  options: fc.record(
    {
      temperature: fc.constantFrom(0.5, 1, 2),
      topK: fc.constantFrom(1, 2, 3, 5, 8, 40),
      topP: fc.constantFrom(0.1, 0.5, 0.9),
      minP: fc.constantFrom(0.05, 0.3),
      seed: fc.nat(1000),
    },
    { requiredKeys: ["temperature", "seed"] },
  ),
  logits: fc
    .constantFrom(7, 50, 97)
    .chain((v) => fc.array(fc.integer({ min: -4, max: 3 }), { minLength: v, maxLength: v })),
});

test("of equals at the cut of top-k and top-p those of the lowest ids are kept, as by the sampler in doubles", () => {
  let [same, all, cut] = [0, 0, 0];
  fc.assert(
    fc.property(arbTies, fc.array(fc.nat(60), { minLength: 1, maxLength: 4 }), ({ options, logits }, positions) => {
      const sampling = samplingOf(options, logits.length);
      // A row beside that asks for both cuts must change nothing.
      const other = { logits, options: samplerRow(samplingOf({ topK: 3, topP: 0.8, seed: 1 }, 90)), uniform: 0.3 };
      const kind = { ...samplerKind([{ sampling, position: 0 }]), topK: true, topP: true, draws: true };
      for (const position of positions) {
        const row = { logits, options: samplerRow(sampling), uniform: uniformOf(sampling, position) };
        const expected = theirs(logits, sampling, position);
        all++;
        if (ours(kind, [row, other])[0] === expected) same++;
        // What would come of keeping all equals.
        if (options.topK !== undefined && logits.filter((x) => x >= logits[expected]!).length > options.topK) cut++;
      }
    }),
    { numRuns: 150 },
  );
  expect(cut).toBeGreaterThan(30);
  // A top-p that falls exactly between two tokens is decided by rounding.
  expect(all - same).toBeLessThanOrEqual(2);
});

/** As a GPU would, in the executor that finds races. */
const onWorkgroups: typeof interpret = (module, inputs) =>
  runPlan(compileToPlan(module, webgpuTarget).plan, inputs, runKernel);

test.each([60, 600, 1536])("a GPU's launches draw what the interpreter draws, of a vocabulary of %i", (vocab) => {
  const options = { temperature: 0.7, topK: 40, topP: 0.9, minP: 0.01, seed: 3 };
  for (const [topK, topP, penalties] of [
    [false, false, false],
    [true, false, false],
    [false, true, false],
    [true, true, true],
  ] as const) {
    const sampling = samplingOf(options, vocab);
    const rows = [1, 2].map((seed) => {
      // Rounded, so that there are equals.
      const logits = logitsOf(vocab, seed, 3).map((x) => Math.round(x * 16) / 16);
      return { logits, options: samplerRow(sampling), uniform: uniformOf(sampling, 10 * seed), history: nothing };
    });
    const kind = { draws: true, topK, topP, penalties };
    const some = vocab > 600 ? rows.slice(0, 1) : rows; // one row has launches of its own
    expect(ours(kind, some, onWorkgroups)).toEqual(ours(kind, some));
  }
});

test.each([600, 1536])("draws from a vocabulary of %i in parts and groups as the sampler in doubles does", (vocab) => {
  for (const [seed, topP] of [1, 2, 3, 4].flatMap((each) => [[each, 0.5] as const, [each, 0.99] as const])) {
    const sampling = samplingOf({ temperature: 0.8, topP, seed }, vocab);
    const logits = logitsOf(vocab, seed, 2);
    const row = { logits, options: samplerRow(sampling), uniform: uniformOf(sampling, seed) };
    const kind = samplerKind([{ sampling, position: seed }]);
    expect(ours(kind, [row])).toEqual([theirs(logits, sampling, seed)]);
  }
});

test.each([
  ["greedy", { draws: false, topK: false, topP: false, penalties: false }, 2],
  ["temperature", { draws: true, topK: false, topP: false, penalties: false }, 3],
  ["top-p", { draws: true, topK: false, topP: true, penalties: false }, 9],
  ["top-k and top-p", { draws: true, topK: true, topP: true, penalties: false }, 15],
] as const)("%s takes few launches of a GPU", (_, kind, launches) => {
  const builder = new Builder();
  const [logits, uniform] = [builder.param("logits", "f32", [1, 151936]), builder.param("uniform", "f32", [1])];
  const options = builder.param("options", "f32", [1, samplerColumns.length]);
  const out = sampleTokens(maths(builder), kind, { logits, uniform, options });
  const func: Func = { name: "main", params: [logits, uniform, options], outs: [out] };
  const { plan } = compileToPlan(makeModule("sampler", [func], "main"), someGpu);
  expect(planTotals(plan).launches).toBe(launches);
});

/** As many buffers and invocations as GPUs of graphics cards have. */
const someGpu = webgpuTargetOf({ ...leastWebGpu, invocations: 1024, sharedBytes: 49152, buffers: 16 });

const arbHistory = fc.record({
  prompt: fc.array(fc.nat(49), { maxLength: 12 }),
  output: fc.array(fc.nat(49), { maxLength: 20 }),
});

function historyOf({ prompt, output }: { prompt: number[]; output: number[] }): TokenHistory {
  const counts = new Map<number, number>();
  for (const id of output) counts.set(id, (counts.get(id) ?? 0) + 1);
  return { prompt: new Set(prompt), output: counts };
}

const arbPenalties = fc.record({
  temperature: fc.constantFrom(0, 0.6, 1),
  repetitionPenalty: fc.constantFrom(1, 0.5, 1.1, 1.3, 2),
  presencePenalty: fc.constantFrom(0, 0.5, -1, 2),
  frequencyPenalty: fc.constantFrom(0, 0.1, 1.5, -0.3),
  topK: fc.constantFrom(undefined, 5),
  seed: fc.nat(1000),
});

test("penalties choose as those in doubles do, in rows with and without", () => {
  let [same, all, changed] = [0, 0, 0];
  fc.assert(
    fc.property(arbPenalties, arbHistory, fc.integer(), fc.nat(50), (options, seen, seed, position) => {
      const logits = logitsOf(50, seed, 4);
      const history = historyOf(seen);
      const [with_, without] = [options, { temperature: options.temperature, seed: options.seed }].map((each) =>
        samplingOf(each, 50),
      ) as [Sampling, Sampling];
      const kind = { ...samplerKind([{ sampling: with_, position }]), draws: options.temperature > 0, penalties: true };
      const rows = [with_, without].map((sampling) => {
        return { logits, options: samplerRow(sampling), uniform: uniformOf(sampling, position), history };
      });
      const expected = [with_, without].map((sampling) => theirs(logits, sampling, position, history));
      const found = ours(kind, rows);
      for (const i of [0, 1]) {
        all++;
        if (found[i] === expected[i]) same++;
      }
      if (expected[0] !== expected[1]) changed++;
    }),
    { numRuns: 200 },
  );
  expect(changed).toBeGreaterThan(20);
  // As above: rounding of a sum against a random number.
  expect(all - same).toBeLessThanOrEqual(1);
});

test("each row's token is counted, and none of rows that fill up a bucket", () => {
  const builder = new Builder();
  const m = maths(builder);
  const counts = builder.param("counts", "f32", [12, 1]);
  const tokens = builder.param("tokens", "i32", [3]);
  const func: Func = { name: "main", params: [counts, tokens], outs: [countTokens(m, counts, tokens)] };
  const before = Float32Array.from([0, 0.5, 2, 0, 0, 0, 0, 3.5, 1, 1, 1, 1]);
  const inputs = [
    tensorFrom(tensorType("f32", [12, 1]), before),
    tensorFrom(tensorType("i32", [3]), Int32Array.of(1, 3, -1)),
  ];
  const [after] = interpret(makeModule("count", [func], "main"), inputs);
  expect([...after!.data]).toEqual([0, 1.5, 2, 0, 0, 0, 0, 4.5, 1, 1, 1, 1]);
  // In place and without a copy, although new counts are made of old ones.
  const { donated, steps } = compileToPlan(makeModule("count", [func], "main"), webgpuTarget).plan.funcs.get("main")!;
  expect(donated).toEqual([0]);
  expect(new Set(steps.map(({ step }) => step))).toEqual(new Set(["launch"]));
  expect(emptyRow).toHaveLength(samplerColumns.length);
});

test("what a device's sampler cannot do is said to be so", () => {
  const ahead = (options: SamplingOptions) => samplesAhead(samplingOf(options, 10));
  expect(ahead({ temperature: 0.6, topP: 0.95, topK: 3, minP: 0.1 })).toBe(true);
  expect(ahead({ repetitionPenalty: 1.1, presencePenalty: 1, frequencyPenalty: 1 })).toBe(true);
  expect(ahead({ logitBias: { 3: 1 } })).toBe(false);
});
