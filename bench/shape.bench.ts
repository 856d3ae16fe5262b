/**
 * Decode at the shape of a published model, on random weights made on the spot: `tsx bench/shape.bench.ts [--layers 4]
 * [--threads 1,2] [--json]`. The shape is that of R1-Distill-Qwen-1.5B, cut to a few layers, because time per layer and
 * bytes per second do not depend on their number. A limit of decode is bytes of weights read per token over the memory's
 * bandwidth: the bytes and the rate reached are printed.
 */
import { parseArgs } from "node:util";
import { openDevice } from "../src/compile.ts";
import { type Tensor, zeros } from "../src/ir/tensor.ts";
import { deriveWeights, isDerivedWeight } from "../src/models/deepseek/rope-tables.ts";
import { namesOf, weightSpecs } from "../src/models/deepseek/weights.ts";
import { ModelRunner } from "../src/runtime/model-runner.ts";
import { WeightStore } from "../src/runtime/weight-store.ts";
import { shapeOf } from "./cpu/make/shapes.ts";

const { values } = parseArgs({
  options: {
    layers: { type: "string", default: "4" },
    threads: { type: "string", default: "1,2" },
    json: { type: "boolean", default: false },
  },
});
const layers = Number(values.layers);
const context = 256;

const { config } = shapeOf("qwen", layers);
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

interface Result {
  readonly name: string;
  readonly msPerToken: number;
  readonly gigabytesPerSecond: number;
  readonly megabytes: number;
  readonly loadSeconds: number;
}

async function measure(name: string, weights: "none" | "int8" | "int4", threads: number): Promise<Result> {
  const device = openDevice("wasm", { threads });
  const store = new WeightStore(randomWeight, device);
  const quantize = weights === "none" ? undefined : ({ weights, activations: "int8", method: "range" } as const);
  const limits = {
    tokens: 32,
    sequences: 1,
    blocks: 16,
    outputs: 32,
    blockSize: 16,
    slots: context,
    ropeRows: context,
  };
  const runner = new ModelRunner(config, store, { device, limits, build: {}, compile: quantize ? { quantize } : {} });
  const start = performance.now();
  const step = (position: number) =>
    runner.step({
      tokens: Int32Array.of(position % 1000),
      positions: Int32Array.of(position),
      sequence: Int32Array.of(0),
      slots: Int32Array.of(position),
      blockTables: [Int32Array.from({ length: 16 }, (_, i) => i)],
      outputs: Int32Array.of(0),
    });
  await step(0);
  const loadSeconds = (performance.now() - start) / 1000;
  for (let i = 1; i < 8; i++) await step(i);
  const times: number[] = [];
  for (let i = 0; i < 24; i++) {
    const before = performance.now();
    await step(128 + i);
    times.push(performance.now() - before);
  }
  const msPerToken = times.sort((a, b) => a - b)[times.length >> 1]!;
  // Of the embedding a token reads one row.
  const rows = config.vocab_size * config.hidden_size;
  const embedding = weights === "none" ? 2 * rows : rows * (1 + 2 / 32);
  const bytes = store.bytes - embedding;
  await device.close();
  return { name, msPerToken, gigabytesPerSecond: bytes / msPerToken / 1e6, megabytes: bytes / 1e6, loadSeconds };
}

const results: Result[] = [];
for (const threads of values.threads.split(",").map(Number)) {
  for (const weights of ["int4", "int8"] as const) {
    results.push(await measure(`${weights}, ${threads} thread${threads > 1 ? "s" : ""}`, weights, threads));
  }
}
if (values.json) console.log(JSON.stringify({ layers, results }));
else {
  console.log(
    `R1-Distill-Qwen-1.5B shape, ${layers} of 28 layers and the head, wasm, decode after 128 tokens: median of 24 tokens`,
  );
  for (const { name, msPerToken, gigabytesPerSecond, megabytes, loadSeconds } of results) {
    console.log(
      `  ${name.padEnd(16)} ${msPerToken.toFixed(1)} ms a token, ${gigabytesPerSecond.toFixed(1)} GB/s of ${megabytes.toFixed(0)} MB; loaded in ${loadSeconds.toFixed(1)} s`,
    );
  }
}
