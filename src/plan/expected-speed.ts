/**
 * How fast a model should run on one device whose figures were measured: the cost model of plans (cost.ts) with measured
 * rates instead of peaks, and the launches of our lowerings.
 */
import type { ModelConfig } from "../models/deepseek/config.ts";
import { type System, stepCost } from "./cost.ts";
import type { Precision } from "./model-memory.ts";
import { type ModelShape, shapeOf } from "./shape.ts";

/** Measured rates of a device, in bytes, operations and seconds. */
export interface Rates {
  readonly reading: number;
  readonly f32Vector: number;
  readonly int8Vector: number;
  readonly f32Matrix: number;
  readonly int8Matrix: number;
  readonly launch: number;
  readonly step: number;
}

export interface ExpectedSpeed {
  /** Tokens per second of one sequence, and of its prompt. */
  readonly decode: number;
  readonly prefill: number;
  /** Bytes of weights that a token reads, operations that it takes, and launches of its step. */
  readonly bytes: number;
  readonly operations: number;
  readonly launches: number;
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
  /** GPUs: launches are divided by what they compute. */
  divided: { gqa: 7, mla: 9, dense: 3.5, moe: 5, codes: { dense: -2, moe: 1.5 } },
  /** Engines that run op by op: ops of the IR, after codes were expanded. */
  ops: { gqa: 72, mla: 82, dense: 17, moe: 62, codes: { dense: 20, moe: 20 } },
  /** A graph: its matrix products; the small ops between them are hardly seen. */
  graph: { gqa: 4, mla: 7, dense: 2, moe: 10, codes: { dense: 0, moe: 0 } },
} as const;

export type Launching = keyof typeof launchTable;

/** Tokens of a prompt that are computed at once. */
const chunk = 128;
const alone = { pp: 1, tp: 1, dp: 1, experts: false } as const;

export interface SpeedQuestion {
  readonly config: ModelConfig;
  readonly precision: Precision;
  readonly launching: Launching;
  /** Tokens in the cache. */
  readonly attended: number;
}

export function expectedSpeed({ config, precision, launching, attended }: SpeedQuestion, rates: Rates): ExpectedSpeed {
  // Engines expand codes once; 16-bit weights, which they may keep, cost them as much as f32 (decision 0022).
  const expands = launching === "ops" || launching === "graph";
  const shape = shapeFor(config, expands ? "f32" : precision);
  const quantized = precision === "int8" || precision === "int4";
  const coded = quantized && !expands;
  const counts = launchTable[launching];
  const layers = config.feed_forward.map(
    ({ kind }) => counts[config.attention.kind] + counts[kind] + (quantized ? counts.codes[kind] : 0),
  );
  const launches = Math.round(layers.reduce((sum, each) => sum + each, 2));
  const run = (tokens: number, decoding: boolean, operations: number) => {
    const system = systemOf(rates, operations, (launches * rates.launch) / layers.length);
    const { latency, parts } = stepCost(
      shape,
      [shape.layers],
      alone,
      { tokens, attended: decoding ? attended : tokens / 2, decoding },
      system,
    );
    return { seconds: latency + rates.step, parts };
  };
  const one = run(1, true, coded ? rates.int8Vector : rates.f32Vector);
  const many = run(chunk, false, coded ? rates.int8Matrix : rates.f32Matrix);
  const { weights: reading, products } = one.parts;
  const weights = Math.max(reading, products);
  return {
    decode: 1 / one.seconds,
    prefill: chunk / many.seconds,
    bytes: reading * rates.reading,
    operations: products * (coded ? rates.int8Vector : rates.f32Vector),
    launches,
    seconds: {
      ...{ weights, reading, operations: products },
      launches: launches * rates.launch,
      other: one.seconds - weights - launches * rates.launch,
    },
  };
}

/** As our backends hold it: what is not quantised is f32. */
function shapeFor(config: ModelConfig, precision: Precision): ModelShape {
  const name = config.model_type;
  if (precision === "int8" || precision === "int4") return shapeOf(name, config, precision, 32);
  const bits = precision === "f32" ? 32 : 16;
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
