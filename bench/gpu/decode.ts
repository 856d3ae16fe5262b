/** Speed of a published shape with random weights on this GPU: prefill, decode at batch 1 and of several sequences, and what limits it. */
import { mkdirSync } from "node:fs";
import type { QuantizeOptions } from "../../src/compile.ts";
import { planTotals } from "../../src/ir/plan.ts";
import { samplerKind } from "../../src/runtime/engine/ahead.ts";
import { type LoadOptions, loadModel } from "../../src/runtime/load-model.ts";
import type { Model } from "../../src/runtime/model.ts";
import { showKernelTimes } from "../../src/runtime/report/kernel-profile.ts";
import { profileAhead, profileStep, type StepProfile, showSides } from "../../src/runtime/report/profile-step.ts";
import { tokenCost } from "../../src/runtime/report/token-cost.ts";
import { planSampling } from "../../src/runtime/sampling/sampler.ts";
import { checkSampling, type SamplingOptions } from "../../src/runtime/sampling/sampling-options.ts";
import type { ModelRunner } from "../../src/runtime/steps/model-runner.ts";
import { singleBatch, someTokens } from "../../src/runtime/steps/single-batch.ts";
import type { AheadRow, RaggedBatch } from "../../src/runtime/steps/step.ts";
import { makeCheckpoint } from "../cpu/make/make-models.ts";
import { batchOf, batchTogether, runTokens } from "./batches.ts";
import { recordFigures } from "./figures.ts";
import { gpuFlags, type Mode, openBenchGpu, type ShapeOptions, shapeFlags, shapeOptions } from "./mode.ts";

interface DecodeOptions extends ShapeOptions {
  /** `f32` and `bf16` as stored; `int8` and `int4` with inputs in int8. */
  readonly formats: readonly string[];
  /** Shows the time of each kernel, by timestamps. */
  readonly profile: boolean;
  /** Sequences that are decoded together, for a row of its own; 1 leaves it out. */
  readonly sequences: number;
  /** A folder with a model to measure instead of one that is made. */
  readonly folder: string | null;
  /** How fast this GPU reads memory, as far as is known. */
  readonly gigabytesPerSecond: readonly number[];
  readonly matrixUnits: boolean;
}

export const decodeMode: Mode = {
  name: "decode",
  does: "a published shape with random weights: prompts, and tokens one after another",
  flags: [...shapeFlags, "formats", "profile", "sequences", "folder", "rate", "matrix-units", ...gpuFlags],
  run: async (flags) => {
    const { gpu, name } = await openBenchGpu(flags);
    await measureDecode(gpu, {
      ...shapeOptions(flags),
      formats: flags.formats.split(","),
      profile: flags.profile,
      sequences: Number(flags.sequences ?? 1),
      folder: flags.folder ?? null,
      gigabytesPerSecond: flags.rate === undefined ? ratesOf(name) : [Number(flags.rate)],
      matrixUnits: flags["matrix-units"],
    });
    return true;
  },
};

/** GB/s at which a shader reads memory on this GPU: measured on an H200; an H100's is between these. */
function ratesOf(name: string): readonly number[] {
  if (name.includes("H200")) return [4460];
  return name.includes("H100") ? [2000, 3000] : [];
}

const repetitions = 3;
const leastMilliseconds = 500;

async function measureDecode(gpu: GPU, options: DecodeOptions): Promise<void> {
  const { shape } = options;
  console.log(options.folder ?? shape.title);
  mkdirSync(options.cache, { recursive: true });
  for (const format of options.formats) {
    try {
      const dtype = format === "f32" ? "f32" : "bf16";
      const folder = options.folder ?? makeCheckpoint(shape, dtype, options.cache, console.log);
      await measureFormat(gpu, folder, format, options);
    } catch (error) {
      console.log(`${format}: FAILED ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** The same logits by the kernels of several tokens and, after all but the last token, by those of one: at sizes that tests do not reach. */
async function compareSteps(runner: ModelRunner, format: string, tokens: number): Promise<void> {
  const expected = [...(await runTokens(runner, 0, tokens))];
  await runTokens(runner, 0, tokens - 1);
  const all = someTokens(tokens, runner.sizes.vocabSize);
  const found = await runner.step(singleBatch(runner.sizes, all.slice(-1), { start: tokens - 1 }));
  const largest = expected.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
  const apart = expected.reduce((most, each, i) => Math.max(most, Math.abs(each - found[i]!)), 0);
  console.log(
    `${format}: last of ${tokens} tokens alone and with the others: ${(apart / largest).toExponential(1)} of the largest logit apart`,
  );
}

/** What each kernel takes in a prompt and in a step of several sequences, with every launch in a pass of its own. */
async function profileKernels(runner: ModelRunner, format: string, options: DecodeOptions): Promise<void> {
  const { prefill, sequences } = options;
  showStep(`${format} prefill`, await profileStep(runner, { tokens: prefill, steps: profiledSteps }));
  if (sequences === 1) return;
  const step = { tokens: sequences, after: options.context - 1, steps: profiledSteps };
  showStep(`${format} decode together`, await profileStep(runner, step, batchTogether(runner, options, 0)));
}

function showStep(name: string, { tokens, after, how, kernels, sides }: StepProfile): void {
  const lines = [...(sides === null ? [] : [showSides(sides)]), showKernelTimes(kernels, { most: 16 })];
  console.log(`\n${name}, ${tokens} tokens after ${after}, ${how}: ${lines.join("\n")}`);
}

const profiledSteps = 8;
/** Of a context, tokens computed at once. */
const mostTogether = 2048;

function loadOptions(gpu: GPU, format: string, options: DecodeOptions): LoadOptions {
  const { prefill, context, tokens, sequences, matrixUnits } = options;
  const contextLength = Math.max(prefill, context + 3 * tokens + 2);
  const quantize = { weights: format, activations: "int8" } as QuantizeOptions; // its formats are checked by the loader
  return {
    backend: "webgpu",
    gpu,
    matrixUnits,
    contextLength,
    maxSequences: sequences,
    maxBatchTokens: Math.max(prefill, Math.min(context, mostTogether)),
    ...((format === "int8" || format === "int4") && { quantize }),
  };
}

async function measureFormat(gpu: GPU, folder: string, format: string, options: DecodeOptions): Promise<void> {
  const { tokens, prefill, context } = options;
  const start = performance.now();
  const model = await loadModel(folder, loadOptions(gpu, format, options));
  try {
    if (options.matrixUnits) console.log(model.device?.summary);
    console.log(`\n${format}: loaded in ${seconds(start)}, weights ${megabytes(model.memory.weights)}`);
    const runner = model.runner as ModelRunner; // what every backend but the interpreter has
    const first = performance.now();
    await runTokens(runner, 0, 1);
    console.log(`${format}: first step of a token ${seconds(first)}`);
    const firstPrefill = performance.now();
    await runTokens(runner, 0, prefill);
    console.log(`${format}: first prefill ${seconds(firstPrefill)}`);
    const prefilled = await best(() => runTokens(runner, 0, prefill));
    console.log(`${format}: prefill of ${prefill}: ${(prefill / prefilled).toFixed(1)} tokens/s`);
    await compareSteps(runner, format, prefill);
    for (let done = 0; done < context; done += mostTogether) {
      await runTokens(runner, done, Math.min(mostTogether, context - done));
    }
    await runTokens(runner, context, 1);
    const decoded = await best(async () => {
      for (let i = 0; i < tokens; i++) await runTokens(runner, context + 1 + i, 1);
    });
    report(model, format, tokens / decoded, options);
    let one = 0;
    for (const [name, sampling] of samplers) {
      const ahead = await measureAhead(model, runner, `${format} ${name}`, sampling, options);
      if (ahead === null || sampling.temperature !== 0) continue;
      one = ahead;
      recordFigures(options.figures, {
        engine: `ciuic ${format}`,
        ours: true,
        decode: ahead,
        prefill: prefill / prefilled,
      });
    }
    if (options.sequences > 1) await measureTogether(runner, format, one, options);
    if (options.profile) await profileKernels(runner, format, options);
  } finally {
    await model.close();
  }
}

/** How tokens are chosen where steps follow each other on the GPU. */
const samplers = [
  ["greedy", { temperature: 0 }],
  ["temperature 0.6, top-p 0.95", { temperature: 0.6, topP: 0.95, seed: 1 }],
] as const satisfies readonly (readonly [string, SamplingOptions])[];

/** Decoding with the sampler on the GPU, ids read behind the computation: the program alone, whose tokens per second it gives, then with the engine around it. */
async function measureAhead(
  model: Model,
  runner: ModelRunner,
  name: string,
  given: SamplingOptions,
  { tokens, context, profile }: DecodeOptions,
): Promise<number | null> {
  const { ahead } = runner;
  if (ahead === undefined) return null;
  const sampling = planSampling(checkSampling(given, runner.sizes.vocabSize));
  const rows = [{ sampling, position: context }];
  const chunk = Math.min(ahead.maxSteps, tokens);
  const steps = Math.floor(tokens / chunk) * chunk;
  const run = () => decodeAhead(ahead, batchOf(runner, context - 1, 1, steps), rows, { chunk, steps });
  const first = performance.now();
  await run();
  const prepared = seconds(first);
  const perSecond = steps / (await best(run));
  const blocks = Math.ceil((context + steps) / runner.sizes.blockSize);
  const { plan } = await ahead.program(1, blocks, samplerKind(rows));
  const { launches } = planTotals(plan);
  console.log(
    `${name}, ahead by ${chunk} steps: ${perSecond.toFixed(1)} tokens/s, ${(1000 / perSecond).toFixed(3)} ms a token in ` +
      `${launches} launches (${(1e6 / perSecond / launches).toFixed(2)} us each); first ${prepared}`,
  );
  const profiled = profile ? await profileAhead(runner, context - 1, { steps: chunk, sampling: given }) : null;
  if (profiled !== null) showStep(name, profiled);
  const prompt = Array.from({ length: context }, (_, i) => (i * 7919) % runner.sizes.vocabSize);
  const { result } = await model.generate(prompt, { ...given, maxTokens: tokens, ignoreEos: true }).collect();
  console.log(`${name}, through the engine: ${result.timings.tokensPerSecond?.toFixed(1)} tokens/s`);
  return perSecond;
}

/** Steps with the sampler on the GPU, ids read a chunk behind. */
async function decodeAhead(
  ahead: NonNullable<ModelRunner["ahead"]>,
  batch: RaggedBatch,
  rows: readonly AheadRow[],
  { chunk, steps }: { readonly chunk: number; readonly steps: number },
): Promise<void> {
  const started = await ahead.start(batch, rows);
  // As the engine does: the device has something to do while more is recorded.
  let size = Math.min(2, chunk);
  let last = started.queue(size);
  for (let done = size; done < steps; done += size) {
    size = Math.min(2 * size, chunk, steps - done);
    const following = started.queue(size);
    await last;
    last = following;
  }
  if ((await last).some((id) => id < 0)) throw new Error("the sampler found no numbers");
}

/** Several sequences, a token of each in a step, against `one` token a step. */
async function measureTogether(
  runner: ModelRunner,
  format: string,
  one: number,
  options: DecodeOptions,
): Promise<void> {
  const { tokens, context, sequences } = options;
  const { ahead } = runner;
  if (ahead === undefined) return;
  const sampling = planSampling(checkSampling({ temperature: 0 }, runner.sizes.vocabSize));
  const rows = Array.from({ length: sequences }, () => ({ sampling, position: context }));
  const chunk = Math.min(ahead.maxSteps, tokens);
  const steps = Math.floor(tokens / chunk) * chunk;
  const batch = batchTogether(runner, options, steps);
  const run = () => decodeAhead(ahead, batch, rows, { chunk, steps });
  await run();
  const perSecond = (sequences * steps) / (await best(run));
  console.log(
    `${format}, ${sequences} sequences together: ${perSecond.toFixed(1)} tokens/s, ` +
      `${((1000 * sequences) / perSecond).toFixed(3)} ms a step, ${(perSecond / one).toFixed(2)} times one`,
  );
}

function report(model: Model, format: string, perSecond: number, { gigabytesPerSecond }: DecodeOptions): void {
  const { weightBytes, launches } = tokenCost(model.program.plan);
  const reads = (weightBytes * perSecond) / 1e9;
  console.log(
    `${format}: decode ${perSecond.toFixed(1)} tokens/s, ${(1000 / perSecond).toFixed(2)} ms a token in ${launches} launches; ` +
      `${megabytes(weightBytes)} of weights a token, ${reads.toFixed(0)} GB/s`,
  );
  for (const rate of gigabytesPerSecond) {
    const limit = (rate * 1e9) / weightBytes;
    console.log(`${format}: limit at ${rate} GB/s ${limit.toFixed(0)} tokens/s, ${percent(perSecond / limit)} of it`);
  }
}

/** Seconds of the fastest of some runs: of short ones more, since an idle GPU takes its time to raise its clocks. */
async function best(run: () => Promise<unknown>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  const begun = performance.now();
  for (let i = 0; i < repetitions || performance.now() - begun < leastMilliseconds; i++) {
    const start = performance.now();
    await run();
    least = Math.min(least, (performance.now() - start) / 1000);
  }
  return least;
}

function seconds(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(2)} s`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
