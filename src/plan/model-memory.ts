/**
 * What a model takes in memory on our backends: compiled weights, caches, values of a step, and the largest single buffer.
 * It follows what the compiler does with weights (test/plan/model-memory.test.ts compares it with compiled plans): matrices
 * that are multiplied are held as f32 or as codes, the embedding table as stored or as codes of 8 bits, vectors as f32, and
 * latent attention's kv_b twice, since decoding absorbs it and prefill does not.
 */
import { planWeight } from "../passes/quantize/policy.ts";
import type { WeightGroup, WeightSizes } from "./weight-groups.ts";

/** How matrices are held: unquantised, or as codes with an f16 scale for 32 of them. */
export type Precision = "f32" | "bf16" | "int8" | "int4";

export interface StepSizes {
  /** Rows of the caches: tokens of all sequences. */
  readonly slots: number;
  /** Longest sequence. */
  readonly context: number;
  /** Most tokens of a step. */
  readonly tokens: number;
  /** Sizes of steps that such sequences are compiled for, each of which has values of its own. */
  readonly buckets: number;
}

export interface Buffer {
  readonly name: string;
  readonly bytes: number;
}

export interface ModelMemory {
  readonly weights: number;
  /** All caches, and what one token adds to them. */
  readonly caches: number;
  readonly cachePerToken: number;
  /** Values of the largest steps, logits included; an estimate. */
  readonly working: number;
  readonly largest: Buffer;
  /** Of the buffers, the largest that kernels only read, and a layer's cache, which they write. */
  readonly largestWeight: Buffer;
  readonly layerCache: number;
  /** Where the model computes. */
  readonly device: number;
}

const groupSize = 32;
const codeBits = { int8: 8, int4: 4, "int4-affine": 4 } as const;

export function modelMemory(sizes: WeightSizes, precision: Precision, step: StepSizes): ModelMemory {
  const { cacheWidth, layers, rope } = sizes;
  const held = heldWeights(sizes, precision);
  const weights = held.reduce((sum, { bytes }) => sum + bytes, 0) + 4 * rope * step.context;
  const cachePerToken = 4 * cacheWidth * layers;
  const caches = cachePerToken * step.slots;
  const working = 4 * (step.tokens * stepWidth(sizes) + sizes.vocab) * step.buckets;
  const most = (buffers: readonly Buffer[]) =>
    buffers.reduce((found, each) => (each.bytes > found.bytes ? each : found));
  const layerCache = 4 * cacheWidth * step.slots;
  const largestWeight = most(bindings(sizes, precision));
  const largest = most([largestWeight, { name: "a layer's cache", bytes: layerCache }]);
  const device = weights + caches + working;
  return { weights, caches, cachePerToken, working, largest, largestWeight, layerCache, device };
}

/** Bytes by kind of weight, all layers together. */
export function heldWeights(sizes: WeightSizes, precision: Precision): Buffer[] {
  const held = sizes.groups.map((each) => {
    const { codes, scales } = bytesOf(each, precision);
    // Prefill reads it as it is, decoding in two parts, absorbed into the query and the output.
    const times = each.name.endsWith(".kv_b_proj.weight") ? 2 : 1;
    return { name: each.name, bytes: (codes + scales) * each.layers * each.experts * times };
  });
  return [...held, ...headOfTied(sizes, precision)];
}

/** A tied head reads the codes of the embedding, but of what is not quantised it has a copy in f32. */
function headOfTied({ tied, vocab, hidden }: WeightSizes, precision: Precision): Buffer[] {
  if (!tied || precision === "int8" || precision === "int4") return [];
  return [{ name: "lm_head.weight", bytes: (vocab * hidden * wideBits(precision)) / 8 }];
}

function wideBits(precision: Precision): number {
  return precision === "bf16" ? 16 : 32;
}

/** Of one weight of the group. */
function bytesOf({ name, rows, columns, storedBits }: WeightGroup, precision: Precision) {
  const format = precision === "int8" || precision === "int4" ? formatOf(name, precision) : "none";
  const isVector = rows === 1 && !name.endsWith("_proj.weight");
  if (format === "none" || isVector) {
    const bits = isVector ? 32 : name === "model.embed_tokens.weight" ? storedBits : wideBits(precision);
    return { codes: (rows * columns * bits) / 8, scales: 0 };
  }
  return { codes: (rows * columns * codeBits[format]) / 8, scales: 2 * rows * Math.ceil(columns / groupSize) };
}

function formatOf(name: string, weights: "int8" | "int4") {
  return planWeight(name.replace("{expert}", "{0}"), { weights }).format;
}

/** Weights that one buffer holds together: what reads the same input is one matrix, and experts of a layer are stacked. */
const merged: readonly RegExp[] = [
  /(gate_proj|up_proj)\.weight$/,
  /(q_proj|k_proj|v_proj)\.weight$/,
  /(q_a_proj|kv_a_proj_with_mqa)\.weight$/,
];

function bindings(sizes: WeightSizes, precision: Precision): Buffer[] {
  const buffers = new Map<string, number>();
  for (const each of sizes.groups) {
    const { codes } = bytesOf(each, precision);
    const kind = merged.find((pattern) => pattern.test(each.name));
    const key =
      kind === undefined
        ? each.name
        : each.name.replace(kind, kind.source.replace(/[()$\\]/g, "").replaceAll("|", "+"));
    buffers.set(key, (buffers.get(key) ?? 0) + codes * each.experts);
  }
  return [...[...buffers].map(([name, bytes]) => ({ name, bytes })), ...headOfTied(sizes, precision)];
}

/** Values for each token of a step: the residual stream and its norms, and the widest that is between two matrices. */
function stepWidth({ groups, hidden, cacheWidth }: WeightSizes): number {
  const rows = (pattern: RegExp) => groups.reduce((sum, { name, rows }) => (pattern.test(name) ? sum + rows : sum), 0);
  const dense = Math.max(rows(/\.mlp\.(gate|up)_proj\.weight$/), rows(/shared_experts\.(gate|up)_proj\.weight$/));
  const attention = rows(/\.(q_proj|q_b_proj)\.weight$/) * 2 + 2 * cacheWidth;
  return 3 * hidden + Math.max(dense, attention);
}
