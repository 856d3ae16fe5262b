/**
 * Where a step's time goes: milliseconds, operations and bytes per second of every kernel, at the shape of
 * R1-Distill-Qwen-1.5B (or DeepSeek-V2-Lite, `--model v2lite`) cut to a few layers, on random weights made on the spot. Kernels are timed on one thread; the
 * whole step also without timing, on each number of threads.
 *
 *     node bench/cpu/profile.ts [--formats int4,int8] [--steps 1@128,128@0,128@384] [--threads 1,2] [--layers 4] [--model qwen]
 *
 * A step is TOKENS@CONTEXT: so many tokens at once after so many in the cache. Formats: int4 (head in 4 bits too),
 * int4-head8, int8, with activations in 8 bits; int4-weights and int8-weights leave inputs in f32; bf16, as weights are stored; f32.
 */
import { parseArgs } from "node:util";
import { type CompileOptions, type Device, openDevice } from "../../src/compile.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { type Tensor, zeros } from "../../src/ir/tensor.ts";
import { deriveWeights, isDerivedWeight } from "../../src/models/deepseek/rope-tables.ts";
import { namesOf, weightSpecs } from "../../src/models/deepseek/weights.ts";
import { type KernelTime, showKernelTimes } from "../../src/runtime/report/kernel-profile.ts";
import { profileStep } from "../../src/runtime/report/profile-step.ts";
import { ModelRunner } from "../../src/runtime/steps/model-runner.ts";
import { singleBatch, someTokens } from "../../src/runtime/steps/single-batch.ts";
import { WeightStore } from "../../src/runtime/weights/weight-store.ts";
import { measureBandwidth } from "./bandwidth.ts";
import { describeMachine } from "./machine.ts";
import { shapeNames, shapeOf } from "./make/shapes.ts";
import { showMachine } from "./report.ts";

const { values } = parseArgs({
  options: {
    formats: { type: "string", default: "int4,int8" },
    steps: { type: "string", default: "1@128,128@0,128@384,512@0" },
    threads: { type: "string", default: "1,2" },
    layers: { type: "string", default: "4" },
    model: { type: "string", default: "qwen" },
    rounds: { type: "string", default: "7" },
    kernels: { type: "string", default: "24" },
    tier: { type: "string" },
    reading: { type: "boolean", default: false },
  },
});
const shape = shapeNames.find((name) => name === values.model);
if (shape === undefined) throw new Error(`--model: ${values.model}: expected ${shapeNames.join(" or ")}`);
const { config, title } = shapeOf(shape, Number(values.layers));
const context = 1024;
const blockSize = 16;

interface Step {
  readonly tokens: number;
  readonly after: number;
}
const steps = values.steps.split(",").map((text): Step => {
  const [tokens, after] = text.split("@").map(Number) as [number, number]; // as the flag's text says
  return { tokens, after };
});

type Quantize = NonNullable<CompileOptions["quantize"]>;
const formats: Readonly<Record<string, Quantize | null>> = {
  int4: { weights: "int4", activations: "int8", method: "range", overrides: { lm_head: "int4" } },
  "int4-head8": { weights: "int4", activations: "int8", method: "range" },
  int8: { weights: "int8", activations: "int8", method: "range" },
  "int4-weights": { weights: "int4", method: "range" },
  "int8-weights": { weights: "int8", method: "range" },
  bf16: null, // as stored
  f32: { weights: "f32" },
};

const shapes = new Map(weightSpecs(config).flatMap((spec) => [...namesOf(spec)].map((name) => [name, spec.shape])));
const derived = deriveWeights(config, context);

/** bf16 bits of numbers of about 0.01, from a linear congruence: the values do not matter, only that they are not zero. */
async function randomWeight(name: string): Promise<Tensor> {
  if (isDerivedWeight(name)) return derived(name);
  const tensor = zeros("bf16", shapes.get(name)!);
  let state = name.length * 2654435761;
  for (let i = 0; i < tensor.data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    tensor.data[i] = 0x3c00 | ((state >>> 16) & 0x81ff);
  }
  return tensor;
}

function open(device: Device, store: WeightStore, quantize: Quantize | null): ModelRunner {
  const limits = {
    ...{ tokens: 512, sequences: 1, outputs: 1, blockSize, slots: context, ropeRows: context },
    blocks: context / blockSize,
  };
  const compile = quantize === null ? {} : { quantize };
  return new ModelRunner(config, store, { device, limits, build: {}, compile });
}

/** The engine optimises code while it runs: until nothing is left of what it does at first. */
async function warmUp(runner: ModelRunner, step: Step): Promise<void> {
  const start = performance.now();
  for (let i = 0; i < 3 || performance.now() - start < 1500; i++) await run(runner, step);
}

function run(runner: ModelRunner, { tokens, after }: Step): Promise<Float32Array> {
  return runner.step(singleBatch(runner.sizes, someTokens(tokens, 1000), { start: after }));
}

/** Multiplications and additions of one launch, by the packed weights that it reads, of which each row has scales. */
function dotOperations(plan: Plan): (kernel: number) => number {
  const operations = plan.kernels.map(() => 0);
  for (const { steps: launches, locations } of plan.funcs.values()) {
    for (const step of launches) {
      if (step.step !== "launch") continue;
      const types = step.args.map((i) => locations[i]!.type);
      for (const { shape, dtype } of types) {
        if (dtype !== "u8" || shape.length !== 5 || shape[3] !== 4) continue;
        const [blocks, groups] = shape as [number, number]; // of five
        const input = types.find(({ dtype: each, shape: of }) => each === "i8" && of.at(-1) === 32 * groups);
        const scales = types.find(
          ({ dtype: each, shape: of }) => each === "f16" && of[0] === blocks && of[1] === groups,
        );
        if (input === undefined || scales === undefined) continue;
        const tokens = input.shape.slice(0, -1).reduce((a, b) => a * b, 1);
        operations[step.kernel] = 2 * 32 * tokens * scales.shape.reduce((a, b) => a * b, 1);
      }
    }
  }
  return (kernel) => operations[kernel]!;
}

function show(times: readonly KernelTime[], plan: Plan): string {
  const operations = dotOperations(plan);
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  const dots = times.filter(({ index }) => operations(index) > 0);
  const dotMs = dots.reduce((sum, { ms }) => sum + ms, 0);
  const dotOps = dots.reduce((sum, { index, launches }) => sum + operations(index) * launches, 0);
  const note = ({ index, launches, ms }: KernelTime) => {
    const rate = operations(index) === 0 ? "" : `${((operations(index) * launches) / ms / 1e6).toFixed(0)} GOP/s `;
    return rate + (plan.kernels[index]!.origin.at(-1)?.split(" ").at(-1) ?? "");
  };
  const head = `  dots ${dotMs.toFixed(2)} ms at ${(dotOps / dotMs / 1e6).toFixed(0)} GOP/s, all ${total.toFixed(2)} ms (${((100 * dotMs) / total).toFixed(0)} % dots)`;
  return `${head}\n${showKernelTimes(times, { most: Number(values.kernels), note })}`;
}

const median = (times: readonly number[]) => times.toSorted((a, b) => a - b)[times.length >> 1]!;

async function profileFormat(name: string): Promise<void> {
  const quantize = formats[name];
  if (quantize === undefined)
    throw new Error(`--formats: ${name}: expected some of ${Object.keys(formats).join(", ")}`);
  const rounds = Number(values.rounds);
  for (const threads of values.threads.split(",").map(Number)) {
    const device = openDevice("wasm", { threads, ...(values.tier && { tier: values.tier }) });
    const store = new WeightStore(randomWeight, device);
    const runner = open(device, store, quantize);
    console.log(`\n## ${name}, ${device.summary}`);
    for (const step of steps) {
      const size = {
        tokens: step.tokens,
        sequences: 1,
        blocks: Math.ceil((step.after + step.tokens) / 16),
        outputs: 1,
      };
      const before = performance.now();
      const { executable } = runner.compile(size);
      const compileMs = performance.now() - before;
      await warmUp(runner, step);
      const times: number[] = [];
      for (let i = 0; i < (step.tokens === 1 ? 5 : 1) * rounds; i++) {
        const start = performance.now();
        await run(runner, step);
        times.push(performance.now() - start);
      }
      const ms = median(times);
      console.log(
        `\n${name}, ${threads} threads, ${step.tokens} tokens after ${step.after}: ${ms.toFixed(2)} ms [${Math.min(...times).toFixed(2)}], ${((1000 * step.tokens) / ms).toFixed(1)} tokens/s; compiled in ${compileMs.toFixed(0)} ms`,
      );
      if (threads > 1) continue;
      const { kernels } = await profileStep(runner, { ...step, steps: Math.min(rounds, 5), warmup: 1.5 });
      console.log(show(kernels, executable.plan));
    }
    await device.close();
  }
}

console.log(showMachine(describeMachine()));
if (values.reading) {
  for (const threads of [1, 2]) {
    const { gigabytesPerSecond, streams } = await measureBandwidth(threads);
    console.log(`reading, ${threads} threads: ${gigabytesPerSecond.toFixed(1)} GB/s in ${streams} streams`);
  }
}
console.log(title);
for (const name of values.formats.split(",")) await profileFormat(name);
