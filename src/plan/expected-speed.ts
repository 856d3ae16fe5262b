/**
 * How fast a model should run on one device whose figures were measured: the cost model of plans (cost.ts) with measured
 * rates instead of peaks, and the launches of our lowerings.
 */
import type { NarrowWeights } from "../ir/target.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { type System, stepCost } from "./cost.ts";
import { isQuantized, type Precision } from "./model-memory.ts";
import { type LayerShape, type ModelShape, shapeOf } from "./shape.ts";
import { dtypeOf } from "./weight-groups.ts";

/** Measured rates of a device, in bytes, operations and seconds. */
export interface Rates {
  readonly reading: number;
  readonly f32Vector: number;
  readonly int8Vector: number;
  readonly f32Matrix: number;
  readonly int8Matrix: number;
  readonly launch: number;
  readonly launchMatrix: number;
  readonly step: number;
  /** Of the runtime: a token, and a logit of it. */
  readonly token: number;
  readonly logit: number;
}

export interface ExpectedSpeed {
  /** Tokens per second of one sequence, and of its prompt. */
  readonly decode: number;
  readonly prefill: number;
  /** Bytes of weights that a token reads, operations that it takes, and launches of its step. */
  readonly bytes: number;
  readonly operations: number;
  readonly launches: number;
  /** Of a prompt's step. */
  readonly promptLaunches: number;
  /** Seconds of a token, by what they go into: weights are read while they are computed with, so that the longer of both counts. */
  readonly seconds: {
    readonly weights: number;
    readonly reading: number;
    readonly operations: number;
    readonly launches: number;
    readonly other: number;
  };
}

/**
 * Launches of a layer, counted in compiled steps of one token: of attention, of the feed-forward network, and those that
 * codes add to a layer with such a network. Where a GPU's products quantise their input themselves, that is less than none.
 */
const launchTable = {
  /** Processors: small launches are merged. */
  merged: { gqa: 4, mla: 7, dense: 2, moe: 4, codes: { dense: 5, moe: 5 } },
  /** GPUs that bind 16 buffers: launches are divided by what they compute. With 8 buffers there are up to 1.6 times as many. */
  divided: { gqa: 4.5, mla: 6, dense: 2.5, moe: 3, codes: { dense: -1.5, moe: 2 } },
  /** Engines that run op by op: ops of the IR, after codes were expanded. */
  ops: { gqa: 72, mla: 82, dense: 17, moe: 62, codes: { dense: 20, moe: 20 } },
  /** A graph: its ops, of which quantising the input of a product takes some 45. */
  graph: { gqa: 75, mla: 86, dense: 30, moe: 128, codes: { dense: 200, moe: 300 } },
} as const;

export type Launching = keyof typeof launchTable;

interface LaunchCounts {
  readonly gqa: number;
  readonly mla: number;
  readonly dense: number;
  readonly moe: number;
  readonly codes: { readonly dense: number; readonly moe: number };
}

/** Experts that a graph multiplies each token of a prompt with: all, where that copies less than choosing (`matMulByAll`). */
function withAllExperts(layers: readonly LayerShape[]): readonly LayerShape[] {
  return layers.map((layer) => {
    const { experts } = layer;
    const all = experts !== null && experts.count <= 32 * experts.perToken;
    return all ? { ...layer, experts: { ...experts, perToken: experts.count } } : layer;
  });
}

/** Where a prompt's step has more of them: a GPU sorts its tokens by experts, and quantises before a product instead of in it. */
const promptTable: Partial<Record<Launching, LaunchCounts>> = {
  divided: { gqa: 6.5, mla: 8, dense: 2.75, moe: 6.5, codes: { dense: 1, moe: 3 } },
};

function launchesOf({ attention, feed_forward }: ModelConfig, counts: LaunchCounts, quantized: boolean): number {
  const layers = feed_forward.map(
    ({ kind }) => counts[attention.kind] + counts[kind] + (quantized ? counts.codes[kind] : 0),
  );
  return Math.round(layers.reduce((sum, each) => sum + each, 2));
}

/** Tokens of a prompt that are computed at once. */
const chunk = 128;
const alone = { pp: 1, tp: 1, dp: 1, experts: false } as const;

export interface SpeedQuestion {
  readonly config: ModelConfig;
  readonly precision: Precision;
  readonly launching: Launching;
  /** Whether steps of an answer are queued before earlier ones are done, so that a step takes no longer than its launches. */
  readonly queues?: boolean;
  /** Weights that the backend reads as they are stored. */
  readonly narrow: NarrowWeights | null;
  /** Tokens in the cache. */
  readonly attended: number;
}

export function expectedSpeed(question: SpeedQuestion, rates: Rates): ExpectedSpeed {
  const { config, precision, launching, attended } = question;
  // Engines expand codes once; 16-bit weights, which they may keep, cost them as much as f32 (decision 0022).
  const expands = launching === "ops" || launching === "graph";
  const shape = shapeFor(expands ? { ...question, precision: "f32" } : question);
  const promptLayers = launching === "graph" ? withAllExperts(shape.layers) : shape.layers;
  const quantized = isQuantized(precision);
  const coded = quantized && !expands;
  const counts = launchTable[launching];
  const launches = launchesOf(config, counts, quantized);
  const promptLaunches = launchesOf(config, promptTable[launching] ?? counts, quantized);
  const run = (tokens: number, decoding: boolean, operations: number) => {
    const launching = decoding ? launches * rates.launch : promptLaunches * rates.launchMatrix;
    const system = systemOf(rates, operations, launching / config.feed_forward.length);
    const { latency, parts } = stepCost(
      shape,
      [decoding ? shape.layers : promptLayers],
      alone,
      { tokens, attended: decoding ? attended : tokens / 2, decoding },
      system,
    );
    // What is queued ahead is waited for and looked at while the device computes.
    const beside = rates.step + rates.token + config.vocab_size * rates.logit;
    return { seconds: latency + (decoding && question.queues ? 0 : beside), parts };
  };
  const one = run(1, true, coded ? rates.int8Vector : rates.f32Vector);
  const inCodes = coded || (quantized && launching === "graph"); // which quantises inputs
  const many = run(chunk, false, inCodes ? rates.int8Matrix : rates.f32Matrix);
  const { weights: reading, products } = one.parts;
  const weights = Math.max(reading, products);
  return {
    decode: 1 / one.seconds,
    prefill: chunk / many.seconds,
    bytes: reading * rates.reading,
    operations: products * (coded ? rates.int8Vector : rates.f32Vector),
    ...{ launches, promptLaunches },
    seconds: {
      ...{ weights, reading, operations: products },
      launches: launches * rates.launch,
      other: one.seconds - weights - launches * rates.launch,
    },
  };
}

/** As our backends hold it: what is not quantised is as stored, or f32. */
function shapeFor({ config, precision, narrow }: SpeedQuestion): ModelShape {
  const name = config.model_type;
  if (isQuantized(precision)) return shapeOf(name, config, precision, 32);
  const stays =
    precision === "stored" && config.quantization === null && narrow?.dtypes.includes(dtypeOf[config.dtype]);
  const bits = stays ? 16 : 32;
  return { ...shapeOf(name, config, "bf16", 32), bits: { layer: bits, expert: bits, table: bits } };
}

/** Measured rates are what software reaches: nothing is taken off. */
function systemOf(rates: Rates, operations: number, layerOverhead: number): System {
  const device = {
    name: "measured",
    memory: Number.POSITIVE_INFINITY,
    bandwidth: rates.reading,
    flops: operations,
    attentionFlops: rates.f32Vector,
  };
  const software = {
    bandwidthUse: 1,
    flopsUse: 1,
    attentionUse: 1,
    linkUse: 1,
    layerOverhead,
    collectiveOverhead: 0,
    overlap: 0,
    memoryUse: 1,
  };
  return { device, software, link: { bandwidth: 1, latency: 0 } };
}
