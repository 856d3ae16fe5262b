/** Speed of R1-Distill-Qwen-1.5B's shape with random weights on this GPU: prefill, decode at batch 1, and what limits it. */
import { mkdirSync } from "node:fs";
import { loadModel } from "../../src/runtime/load-model.ts";
import type { Model } from "../../src/runtime/model.ts";
import type { ModelRunner } from "../../src/runtime/model-runner.ts";
import { tokenCost } from "../../src/runtime/token-cost.ts";
import { makeCheckpoint } from "../cpu/make/make-models.ts";
import { shapeOf } from "../cpu/make/shapes.ts";

export interface DecodeOptions {
  readonly layers: number;
  /** `f32` and `bf16` as stored; `int8` and `int4` with inputs in int8. */
  readonly formats: readonly string[];
  /** Tokens decoded for a measurement. */
  readonly tokens: number;
  /** Tokens of the prompt that is measured. */
  readonly prefill: number;
  /** Tokens in the cache where decoding starts. */
  readonly context: number;
  /** Folder of the models made. */
  readonly cache: string;
  /** How fast this GPU reads memory, as far as is known. */
  readonly gigabytesPerSecond: readonly number[];
}

const repetitions = 3;

export async function measureDecode(gpu: GPU, options: DecodeOptions): Promise<void> {
  const shape = shapeOf("qwen", options.layers);
  console.log(shape.title);
  mkdirSync(options.cache, { recursive: true });
  for (const format of options.formats) {
    try {
      const folder = makeCheckpoint(shape, format === "f32" ? "f32" : "bf16", options.cache, console.log);
      await measureFormat(gpu, folder, format, options);
    } catch (error) {
      console.log(`${format}: FAILED ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

async function measureFormat(gpu: GPU, folder: string, format: string, options: DecodeOptions): Promise<void> {
  const { tokens, prefill, context } = options;
  const start = performance.now();
  const contextLength = Math.max(prefill, context + repetitions * tokens + 1);
  const model = await loadModel(folder, {
    backend: "webgpu",
    gpu,
    contextLength,
    maxSequences: 1,
    maxBatchTokens: prefill,
    ...((format === "int8" || format === "int4") && { quantize: { weights: format, activations: "int8" } }),
  });
  try {
    console.log(`\n${format}: loaded in ${seconds(start)}, weights ${megabytes(model.memory.weights)}`);
    const runner = model.runner as ModelRunner; // what every backend but the interpreter has
    const first = performance.now();
    await runTokens(runner, 0, 1);
    console.log(`${format}: first step of a token ${seconds(first)}`);
    const firstPrefill = performance.now();
    await runTokens(runner, 0, prefill);
    console.log(`${format}: first prefill ${seconds(firstPrefill)}`);
    const prefilled = await best(async () => runTokens(runner, 0, prefill));
    console.log(`${format}: prefill of ${prefill}: ${(prefill / prefilled).toFixed(1)} tokens/s`);
    await runTokens(runner, 0, context);
    let at = context;
    await runTokens(runner, at++, 1);
    const decoded = await best(async () => {
      for (let i = 0; i < tokens; i++) await runTokens(runner, at++, 1);
    });
    report(model, format, tokens / decoded, options);
  } finally {
    await model.close();
  }
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

/** Seconds of the fastest of some runs. */
async function best(run: () => Promise<void>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < repetitions; i++) {
    const start = performance.now();
    await run();
    least = Math.min(least, (performance.now() - start) / 1000);
  }
  return least;
}

/** A step of `count` tokens of one sequence from position `start`. */
async function runTokens(runner: ModelRunner, start: number, count: number): Promise<void> {
  const positions = Int32Array.from({ length: count }, (_, i) => start + i);
  const blocks = Math.ceil((start + count) / runner.blockSize);
  const logits = await runner.step({
    tokens: positions.map((i) => (i * 7919) % runner.vocabSize),
    positions,
    sequence: new Int32Array(count),
    slots: positions,
    blockTables: [Int32Array.from({ length: blocks }, (_, i) => i)],
    outputs: Int32Array.of(count - 1),
  });
  if (!Number.isFinite(logits[0])) throw new Error(`the logits are not finite: ${logits[0]}`);
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
