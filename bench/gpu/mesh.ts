/**
 * A model on several GPUs of a host, a process each, against one of them: DeepSeek-V2-Lite's shape with random weights as
 * a pipeline with a stage on each. The same tokens, tokens per second of several sequences, and what a hop costs beside
 * the plan's estimate.
 */
import type { QuantizeOptions } from "../../src/compile.ts";
import { hopSeconds } from "../../src/plan/cost.ts";
import { links, tuned } from "../../src/plan/hardware.ts";
import { type LoadOptions, loadModel } from "../../src/runtime/load-model.ts";
import type { MeshRunner } from "../../src/runtime/mesh/mesh-runner.ts";
import { type DeployOptions, shardAndDeploy } from "../../src/runtime/mesh/shard-and-deploy.ts";
import type { Model } from "../../src/runtime/model.ts";
import { readSafetensors } from "../../test/models/read-golden.ts";
import { makeCheckpoint } from "../cpu/make/make-models.ts";
import { type Shape, shapeOf } from "../cpu/make/shapes.ts";
import { beside, dawnFlags, gpuFlags, type Mode, numbers, openBenchGpu } from "./mode.ts";
import { measureReadBack } from "./read-back.ts";

interface MeshOptions {
  readonly shape: Shape;
  /** `bf16` as stored; `int8` and `int4` with inputs in int8. */
  readonly formats: readonly string[];
  /** Tokens that each sequence gets. */
  readonly tokens: number;
  readonly sequences: number;
  /** How many lanes the pipeline has; each is a deployment of its own. */
  readonly lanes: readonly number[];
  /** Folder of the models made. */
  readonly cache: string;
  /** Numbers of GPUs, a stage on each; none: two stages on the first. */
  readonly gpus: readonly number[];
  readonly gpuFlags: readonly string[];
}

/** Of V2-Lite's 27: what is made and loaded in a minute. */
const usualLayers = 12;

export const meshMode: Mode = {
  name: "mesh",
  does: "V2-Lite's shape as a pipeline, a process a GPU, against one GPU; with --only golden models over the GPUs",
  flags: ["goldens", "only", "layers", "formats", "tokens", "sequences", "lanes", "gpus", "cache", ...gpuFlags],
  run: async (flags) => {
    const { gpu } = await openBenchGpu(flags);
    const [gpus, ofDawn] = [numbers(flags.gpus), dawnFlags(flags)];
    if (flags.only !== undefined)
      return (await checkMeshGoldens(flags.goldens ?? `${beside}goldens`, flags.only.split(","), gpus, ofDawn)) === 0;
    await measureReadBack(gpu);
    await measureMesh(gpu, {
      shape: shapeOf("v2lite", Number(flags.layers ?? usualLayers)),
      tokens: Number(flags.tokens),
      cache: flags.cache ?? `${beside}models`,
      formats: flags.formats.split(","),
      sequences: Number(flags.sequences ?? 8),
      lanes: numbers(flags.lanes),
      gpus,
      gpuFlags: ofDawn,
    });
    return true;
  },
};

const contextLength = 512;
const promptTokens = 16;

/** Greedy tokens of golden models with a stage on each GPU; prints a line for each and gives how many are wrong. */
async function checkMeshGoldens(
  folder: string,
  names: readonly string[],
  gpus: readonly number[],
  gpuFlags: readonly string[],
): Promise<number> {
  let wrong = 0;
  for (const name of names) {
    const start = performance.now();
    const golden = readSafetensors(`${folder}/${name}/golden.safetensors`);
    const ids = [...golden.get("input_ids")!.data].slice(0, 12); // every golden has these
    const greedy = [...golden.get("greedy")!.data].slice(12);
    const mesh = { ...placeOn(gpus), gpuFlags, backend: "webgpu", contextLength: 64, stepMs: 20_000 };
    const model = await shardAndDeploy(`${folder}/${name}`, mesh);
    try {
      const options = { maxTokens: greedy.length, temperature: 0, ignoreEos: true };
      const found = await Promise.all([1, 2, 3].map(() => model.generate(ids, options).collect()));
      const same = found.every(({ result }) => greedy.every((id, i) => id === result.tokens[i]));
      if (!same) wrong++;
      const { summaries } = model.runner as MeshRunner; // what shardAndDeploy makes
      console.log(`${name}: ${same ? "right" : "WRONG"} over ${summaries.join(" | ")} (${seconds(start)})`);
    } finally {
      await model.close();
    }
  }
  return wrong;
}

async function measureMesh(gpu: GPU, options: MeshOptions): Promise<void> {
  const { shape, cache, formats, gpus, gpuFlags, sequences } = options;
  const begin = performance.now();
  const folder = makeCheckpoint(shape, "bf16", cache, console.log);
  console.log(`${shape.title}, made in ${seconds(begin)}; ${sequences} sequences of ${options.tokens} tokens`);
  for (const format of formats) {
    const quantize = { weights: format, activations: "int8", method: "range" } as QuantizeOptions; // checked by the loader
    const sizes = { contextLength, maxSequences: sequences, maxBatchTokens: 128 };
    const limits: LoadOptions = { ...sizes, ...(format !== "bf16" && { quantize }) };
    const start = performance.now();
    const single = await loadModel(folder, { ...limits, backend: "webgpu", gpu });
    console.log(`${format}: one GPU loaded in ${seconds(start)}, weights ${gigabytes(single.memory.weights)}`);
    const one = await measure(single, options);
    console.log(`${format}: one GPU ${show(one)}`);
    await single.close();
    for (const lanes of options.lanes) {
      const started = performance.now();
      const mesh = { ...limits, ...placeOn(gpus), backend: "webgpu", gpuFlags, lanes };
      const model = await shardAndDeploy(folder, mesh);
      const { ranks } = model.runner as MeshRunner; // what shardAndDeploy makes
      const held = ranks.map(({ weights, read }) => `${gigabytes(weights)} of ${gigabytes(read)} read`);
      console.log(`${format}: ${ranks.length} stages, ${lanes} lanes loaded in ${seconds(started)}, weights ${held}`);
      const several = await measure(model, options);
      console.log(`${format}: ${ranks.length} stages ${show(several)}`);
      const same = several.tokens.filter((tokens, i) => tokens === one.tokens[i]).length;
      const alone = several.alone === one.alone ? "the same tokens" : "OTHER TOKENS";
      const times = (several.perSecond / one.perSecond).toFixed(2);
      console.log(`${format}: ${times} times one GPU; ${same} of ${sequences} sequences and one alone have ${alone}`);
      await measureHop(model, one, shape.config.hidden_size, format);
      await model.close();
    }
  }
}

/** A stage on each of these GPUs; two on the first where there are none. */
function placeOn(gpus: readonly number[]): Pick<DeployOptions, "devices" | "gpus" | "place"> {
  return gpus.length === 0 ? { devices: { pp: 2 }, place: "processes" } : { devices: { pp: gpus.length }, gpus };
}

interface Measured {
  readonly perSecond: number;
  /** Milliseconds a token of a sequence alone. */
  readonly aloneMs: number;
  readonly tokens: readonly string[];
  readonly alone: string;
}

/** All sequences together, then one alone; the first run of each compiles. */
async function measure(model: Model, { tokens, sequences }: MeshOptions): Promise<Measured> {
  const prompts = Array.from({ length: sequences }, (_, s) =>
    Array.from({ length: promptTokens }, (_, i) => (1 + s * 4099 + i * 7919) % model.config.vocab_size),
  );
  const options = { maxTokens: tokens, temperature: 0, ignoreEos: true };
  const run = (some: readonly number[][]) => Promise.all(some.map((each) => model.generate(each, options).collect()));
  const timed = async (some: readonly number[][]) => {
    await run(some);
    let least = Number.POSITIVE_INFINITY;
    let found: Awaited<ReturnType<typeof run>> = [];
    for (let i = 0; i < 2; i++) {
      const start = performance.now();
      found = await run(some);
      least = Math.min(least, performance.now() - start);
    }
    return { ms: least, tokens: found.map(({ result }) => result.tokens.join()) };
  };
  const all = await timed(prompts);
  const alone = await timed(prompts.slice(0, 1));
  return {
    perSecond: (1000 * tokens * sequences) / all.ms,
    aloneMs: alone.ms / tokens,
    tokens: all.tokens,
    alone: alone.tokens[0]!, // of one sequence
  };
}

/** Of the last chunk of a sequence alone: what each stage spends itself, and what is between them. */
async function measureHop(model: Model, one: Measured, hidden: number, format: string): Promise<void> {
  const { rankMs, exchangeMs } = model.runner as MeshRunner; // what shardAndDeploy makes
  const step = Math.max(...rankMs);
  const own = rankMs.map((ms, rank) => ms - exchangeMs[rank]!);
  const sum = own.reduce((total, ms) => total + ms, 0);
  const hops = rankMs.length;
  const link = Math.max(0, step - sum) / hops;
  const hop = (step - one.aloneMs) / hops;
  const estimate = (name: "pcie4" | "webgpu-host") =>
    (1000 * hopSeconds(1, hidden, { link: links[name], software: tuned })).toFixed(3);
  console.log(
    `${format}: a token alone takes ${step.toFixed(3)} ms over ${hops} stages, ${own.map((ms) => ms.toFixed(3)).join(" + ")} of it theirs, and ` +
      `${one.aloneMs.toFixed(3)} ms on one GPU: a hop (read, send, write) costs ${hop.toFixed(3)} ms, ${link.toFixed(3)} of it between processes; ` +
      `the plan says ${estimate("pcie4")} ms for pcie4 and ${estimate("webgpu-host")} for webgpu-host`,
  );
}

function show({ perSecond, aloneMs }: Measured): string {
  return `${perSecond.toFixed(1)} tokens/s together, ${aloneMs.toFixed(2)} ms a token alone`;
}

function seconds(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
